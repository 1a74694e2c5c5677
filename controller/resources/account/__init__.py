"""Limits and usage of an account in a region."""
