"""Reserved concurrency of a function."""
