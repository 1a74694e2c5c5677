"""The bus between controllers and workers: Redis, its scripts, and a connection that joins commands into one write."""
