"""Isolation of user code: the port, and its drivers."""
