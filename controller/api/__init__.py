"""The HTTP edge that every resource shares: identity, guards, errors, request bodies, health."""
