"""Container images that are pushed to the platform itself."""
