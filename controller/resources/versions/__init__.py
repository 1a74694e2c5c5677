"""Published versions of a function."""
