"""Deployment packages on the worker's disk."""
