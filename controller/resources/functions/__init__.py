"""Functions: create, read, update, delete, and the services that other parts use to resolve and prepare them."""
