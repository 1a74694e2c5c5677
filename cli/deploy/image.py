"""What `image` of a manifest means: an image of the local engine, or one that a registry serves."""

from __future__ import annotations


def is_local(image: str) -> bool:
    """Tell whether an image is one of the local engine: its name does not begin with a registry's host.

    The rule of image references: what stands before the first `/` is a host if it has a dot or a port, or is
    `localhost`. So `shop:v1` and `team/shop` are local; `docker.io/library/python:3.13` is not.
    """
    host, slash, _ = image.partition("/")
    return not slash or not ("." in host or ":" in host or host == "localhost")
