"""Brings the platform up and down on one machine. Standard library only: it runs before anything is installed."""
