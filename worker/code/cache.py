"""Unpacked archives (deployment packages and layers), each once per worker, shared by all that use it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from contract.blobs.digest import checked
from contract.blobs.store import BlobNotFoundError, BlobStore
from contract.packages import PackageError, unpack_zip
from worker.code.trees import DEFAULT_LIMIT_BYTES, TreeCache

_FETCH_TIMEOUT_S = 120.0


class CodeUnavailableError(Exception):
    """The code can't be had on this worker now. `str()` says which and why."""


class CodeCache:
    """Archives of the blob store, unpacked under `{state_dir}/code/{sha256}`.

    Order: `start`, then anything, then `close`.
    """

    def __init__(self, blobs: BlobStore, state_dir: Path, *, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        self._blobs = blobs
        self._trees = TreeCache(state_dir, "code", limit_bytes)
        self.start = self._trees.start
        self.close = self._trees.close
        self.evict = self._trees.evict

    @property
    def size_bytes(self) -> int:
        """What the packages take on disk, in bytes of contents."""
        return self._trees.size_bytes

    async def ensure(self, code_sha256: str) -> Path:
        """Return the directory of the unpacked archive, fetching it when it isn't there.

        The tree belongs to this process's user and is to be mounted read-only. Concurrent calls for one archive fetch
        it once; cancelling one of them leaves the others their fetch. Raises CodeUnavailableError.
        """
        checked(code_sha256)
        try:
            return await self._trees.ensure(code_sha256, lambda directory: self._unpack(code_sha256, directory))
        except BlobNotFoundError as error:
            raise CodeUnavailableError(f"code {code_sha256} is not in the blob store: {error}") from error
        except PackageError as error:
            raise CodeUnavailableError(f"code {code_sha256} can't be unpacked: {error}") from error
        except TimeoutError as error:
            raise CodeUnavailableError(
                f"code {code_sha256} was not fetched from the blob store within {_FETCH_TIMEOUT_S:.0f} s"
            ) from error
        except OSError as error:
            raise CodeUnavailableError(f"code {code_sha256} can't be stored in {self._trees.root}: {error}") from error

    async def _unpack(self, code_sha256: str, directory: Path) -> int:
        archive = directory / "package.zip"
        async with asyncio.timeout(_FETCH_TIMEOUT_S):
            await self._blobs.copy_to(code_sha256, archive)
        return await asyncio.to_thread(unpack_zip, archive, directory / "tree")
