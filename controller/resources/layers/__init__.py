"""Layers: published once per version, listed, deleted, and resolved for the functions that use them."""
