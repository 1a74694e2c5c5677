"""Blobs in memory: for tests, and for trying things out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from contract.blobs.digest import checked, digest_of
from contract.blobs.store import BlobNotFoundError


class MemoryBlobStore:
    """The BlobStore that forgets everything with its process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._blobs: dict[str, tuple[bytes, float]] = {}

    async def put(self, data: bytes) -> str:
        """Store `data`, and return its digest."""
        sha256 = digest_of(data)
        self._blobs[sha256] = (bytes(data), self._clock())
        return sha256

    async def put_file(self, path: Path) -> str:
        """Store the contents of a file, and return their digest."""
        return await self.put(await asyncio.to_thread(path.read_bytes))

    async def get(self, sha256: str) -> bytes:
        """Return the whole blob. Raises BlobNotFoundError."""
        blob = self._blobs.get(checked(sha256))
        if blob is None:
            raise BlobNotFoundError(f"no blob {sha256} in memory")
        return blob[0]

    async def copy_to(self, sha256: str, path: Path) -> None:
        """Write the blob to a new file at `path`. Raises BlobNotFoundError."""
        data = await self.get(sha256)
        await asyncio.to_thread(_write_new, path, data)

    async def exists(self, sha256: str) -> bool:
        """Tell whether the blob can be read now."""
        return checked(sha256) in self._blobs

    async def delete_if_older(self, sha256: str, age_s: float) -> bool:
        """Remove the blob if it was last put more than `age_s` seconds ago. Returns whether it was removed."""
        blob = self._blobs.get(checked(sha256))
        if blob is None or self._clock() - blob[1] <= age_s:
            return False
        del self._blobs[sha256]
        return True

    async def list(self) -> AsyncIterator[tuple[str, float]]:
        """Yield each blob's digest and its age in seconds."""
        now = self._clock()
        for sha256, (_, stored_at) in list(self._blobs.items()):
            yield sha256, max(0.0, now - stored_at)


def _write_new(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
