"""The keys of blobs: what they are computed from, and what they look like."""

from __future__ import annotations

import hashlib
import re

_SHA256 = re.compile(r"[0-9a-f]{64}")


def digest_of(data: bytes) -> str:
    """Return the key of these contents: lower-case hex sha256."""
    return hashlib.sha256(data).hexdigest()


def checked(sha256: str) -> str:
    """Return `sha256`, or raise ValueError when it is not a digest; a key never becomes a path unchecked."""
    if not is_digest(sha256):
        raise ValueError(f"not a blob's key: {sha256[:100]!r}; expected 64 lower-case hex digits of a sha256")
    return sha256


def is_digest(text: str) -> bool:
    """Tell whether this is a key as blobs have."""
    return _SHA256.fullmatch(text) is not None
