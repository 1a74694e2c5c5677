"""Pending → Active: asks workers to make a release launchable, and takes down how that went."""
