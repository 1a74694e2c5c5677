"""The cell's own upkeep: lost workers, a changed Redis, what admission knows of functions."""
