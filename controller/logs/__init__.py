"""Reads functions' logs from the workers that keep them."""
