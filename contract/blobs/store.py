"""The port to wherever blobs are kept."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol


class BlobNotFoundError(LookupError):
    """No blob has this digest; it was never stored, or has been deleted since."""


class BlobStore(Protocol):
    """Content-addressed bytes. Equal contents are stored once; blobs never change.

    Keys are lower-case hex sha256 digests of the contents; anything else raises ValueError.
    """

    async def put(self, data: bytes) -> str:
        """Store `data`, and return its digest. Durable (fsync of file and directory) on return. Idempotent.

        A crash or cancellation on the way leaves no readable partial blob.
        """
        ...

    async def put_file(self, path: Path) -> str:
        """Store the contents of the regular file at `path`, and return their digest. As `put`, in bounded memory.

        The file is the caller's before and after: it is neither moved nor linked, so that changing it later changes no
        blob. One that changes meanwhile is stored as it was read, or not at all. Raises OSError when it can't be read,
        or has changed where it must be read twice.
        """
        ...

    async def get(self, sha256: str) -> bytes:
        """Return the whole blob. Raises BlobNotFoundError."""
        ...

    async def copy_to(self, sha256: str, path: Path) -> None:
        """Write the blob to a new file at `path`, verifying its digest. Raises BlobNotFoundError."""
        ...

    async def exists(self, sha256: str) -> bool:
        """Tell whether the blob can be read now."""
        ...

    async def delete_if_older(self, sha256: str, age_s: float) -> bool:
        """Remove the blob if it was last put more than `age_s` seconds ago. Returns whether it was removed.

        The age is looked at again right before: one that has been put anew since it was listed stays. No error when
        it is not there.
        """
        ...

    def list(self) -> AsyncIterator[tuple[str, float]]:
        """Yield each blob's digest and its age in seconds, for the garbage collector; in no particular order."""
        ...
