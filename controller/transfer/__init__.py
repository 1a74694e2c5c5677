"""The direct channel between workers and one controller process, for bodies too large for Redis."""
