"""What runs inside sandboxes: one folder per language, and the catalog, the only list of runtimes."""
