"""Blobs as files of one directory, which several processes (or hosts, by a network file system) may share."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import os
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

from contract.blobs.digest import checked, is_digest
from contract.blobs.store import BlobNotFoundError

#: Temporary files older than this belong to a process that died: no upload takes as long.
STALE_TEMPORARY_S = 3_600.0
_COPY_BYTES = 1 << 20


class DirectoryBlobStore:
    """The BlobStore on a file system: `{root}/ab/cd/abcd…`, each written under `{root}/tmp` and then renamed."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._temporary = root / "tmp"

    async def put(self, data: bytes) -> str:
        """Store `data`, and return its digest. On disk when it returns."""
        return await asyncio.to_thread(self._put, io.BytesIO(data))

    async def put_file(self, path: Path) -> str:
        """Store the contents of a file, a piece at a time, and return their digest. On disk when it returns."""
        return await asyncio.to_thread(self._put_file, path)

    async def get(self, sha256: str) -> bytes:
        """Return the whole blob. Raises BlobNotFoundError."""
        path = self._path(sha256)
        try:
            return await asyncio.to_thread(path.read_bytes)
        except FileNotFoundError:
            raise self._missing(sha256) from None

    async def copy_to(self, sha256: str, path: Path) -> None:
        """Write the blob to a new file at `path`, verifying its digest. Raises BlobNotFoundError.

        Raises OSError, having removed the copy, when what is stored has been damaged.
        """
        await asyncio.to_thread(self._copy_to, sha256, path)

    async def exists(self, sha256: str) -> bool:
        """Tell whether the blob can be read now."""
        return await asyncio.to_thread(self._path(sha256).is_file)

    async def delete_if_older(self, sha256: str, age_s: float) -> bool:
        """Remove the blob if it was last put more than `age_s` seconds ago. Returns whether it was removed."""
        return await asyncio.to_thread(_unlink_if_older, self._path(sha256), age_s)

    async def list(self) -> AsyncIterator[tuple[str, float]]:
        """Yield each blob's digest and its age in seconds. Removes temporary files of processes that died."""
        await asyncio.to_thread(self._sweep)
        for directory in await asyncio.to_thread(_children, self._root):
            if len(directory.name) != 2:
                continue
            for blob in await asyncio.to_thread(_blobs, directory):
                yield blob

    def _path(self, sha256: str) -> Path:
        checked(sha256)
        return self._root / sha256[:2] / sha256[2:4] / sha256

    def _missing(self, sha256: str) -> BlobNotFoundError:
        return BlobNotFoundError(f"no blob {sha256} in {self._root}")

    def _put_file(self, path: Path) -> str:
        with path.open("rb") as source:
            return self._put(source)

    def _put(self, source: BinaryIO) -> str:
        digest = hashlib.sha256()
        self._temporary.mkdir(parents=True, exist_ok=True)
        temporary = self._temporary / uuid.uuid4().hex
        try:
            with temporary.open("xb") as file:
                while chunk := source.read(_COPY_BYTES):
                    digest.update(chunk)
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            sha256 = digest.hexdigest()
            path = self._path(sha256)
            self._make_parents(path)
            # Also when the blob is there: a new file is young again for the garbage collector, and sound.
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_directory(path.parent)
        return sha256

    def _make_parents(self, path: Path) -> None:
        for directory in (path.parent.parent, path.parent):
            directory.mkdir(exist_ok=True)
            # Not only when we made it: another process may have, and not have come to syncing it yet.
            _sync_directory(directory.parent)

    def _copy_to(self, sha256: str, path: Path) -> None:
        digest = hashlib.sha256()
        try:
            source = self._path(sha256).open("rb")
        except FileNotFoundError:
            raise self._missing(sha256) from None
        with source, path.open("xb") as target:
            while chunk := source.read(_COPY_BYTES):
                digest.update(chunk)
                target.write(chunk)
        if digest.hexdigest() != sha256:
            path.unlink(missing_ok=True)
            raise OSError(f"blob {sha256} in {self._root} is damaged: its contents have digest {digest.hexdigest()}")

    def _sweep(self) -> None:
        oldest = time.time() - STALE_TEMPORARY_S
        for path in _children(self._temporary):
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < oldest:
                    path.unlink()


def _children(directory: Path) -> list[Path]:
    try:
        return list(directory.iterdir())
    except FileNotFoundError:
        return []


def _blobs(directory: Path) -> list[tuple[str, float]]:
    now = time.time()
    found = []
    for second in _children(directory):
        for path in _children(second):
            if not is_digest(path.name):
                # Not ours: file systems and people leave files anywhere.
                continue
            with contextlib.suppress(FileNotFoundError):
                found.append((path.name, max(0.0, now - path.stat().st_mtime)))
    return found


def _unlink_if_older(path: Path, age_s: float) -> bool:
    try:
        # In one thread and one step after the other: nothing but a put within these microseconds can be lost.
        if time.time() - path.stat().st_mtime <= age_s:
            return False
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
