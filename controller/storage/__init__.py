"""Where functions are kept: in memory, and in SQL."""
