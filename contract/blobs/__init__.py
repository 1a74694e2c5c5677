"""The blob store: bytes addressed by their sha256, shared by controllers and workers."""
