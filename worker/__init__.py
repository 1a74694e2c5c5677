"""The data plane of one engine: execution environments and what they run in."""
