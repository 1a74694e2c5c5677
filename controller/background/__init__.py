"""Work that nobody waits for in milliseconds: RQ jobs, the answers to preparations, the sweep."""
