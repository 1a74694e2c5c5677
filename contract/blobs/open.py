"""From the setting to the store: which URL means which kind of blob store."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from contract.blobs.directory import DirectoryBlobStore
from contract.blobs.store import BlobStore


def open_blob_store(url: str) -> BlobStore:
    """Return the store that `url` names: `file:///an/absolute/directory`. Raises ValueError for anything else.

    Nothing is read or made before the store is used.
    """
    parts = urlsplit(url)
    path = unquote(parts.path)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost") or parts.query or parts.fragment:
        raise ValueError(f"LAMBDOCK_BLOB_URL is {url!r}: expected file:///an/absolute/directory")
    if not path.startswith("/") or path == "/" or "\0" in path:
        raise ValueError(f"LAMBDOCK_BLOB_URL is {url!r}: the directory must be absolute and not the root")
    return DirectoryBlobStore(Path(path))
