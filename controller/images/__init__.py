"""Container images that are pushed to the platform itself: taken in, checked, listed, removed."""
