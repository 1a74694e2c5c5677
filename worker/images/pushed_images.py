"""Turns pushed images, which lie in the blob store, back into archives that an engine loads."""

from __future__ import annotations

import asyncio
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from contract.blobs.store import BlobNotFoundError, BlobStore
from contract.images import ImageManifest
from worker.images.errors import ImageUnavailableError
from worker.images.function_calls import DELETED


class BlobFetchError(Exception):
    """A blob of the image can't be had; the cause says why. Not an OSError, which would pass for the engine's."""


_PIECE: Final = 1 << 20
_FETCH_TIMEOUT_S: Final = 900.0


async def read_manifest(blobs: BlobStore, digest: str, shown: str) -> ImageManifest:
    """Return what a pushed image consists of. Raises ImageUnavailableError."""
    try:
        return ImageManifest.from_json(await blobs.get(digest))
    except (BlobNotFoundError, ValueError) as error:
        raise lost(shown, error) from error


def archive_of(
    manifest: ImageManifest, name: str, blobs: BlobStore, directory: Path, loop: asyncio.AbstractEventLoop
) -> Iterator[bytes]:
    """Yield a `docker save` archive of the image, called `name`, piece by piece.

    Blobs are fetched one by one, by `loop`, into `directory`, each when its turn comes: for the engine's thread only.
    Raises BlobFetchError.
    """
    config_name = f"{manifest.config}.json"
    files = {config_name: manifest.config} | {f"{layer.diff_id}.tar": layer.blob for layer in manifest.layers}
    for member, blob in files.items():
        path = directory / blob
        try:
            asyncio.run_coroutine_threadsafe(_fetch(blobs, blob, path), loop).result()
        except Exception as error:
            raise BlobFetchError(f"blob {blob} can't be fetched: {error}") from error
        try:
            yield _header(member, path.stat().st_size)
            yield from _contents(path)
        finally:
            path.unlink()
    layers = [f"{layer.diff_id}.tar" for layer in manifest.layers]
    listing = json.dumps([{"Config": config_name, "RepoTags": [name], "Layers": layers}]).encode()
    yield _header("manifest.json", len(listing)) + listing + _padding(len(listing)) + bytes(2 * tarfile.BLOCKSIZE)


async def _fetch(blobs: BlobStore, blob: str, path: Path) -> None:
    async with asyncio.timeout(_FETCH_TIMEOUT_S):
        await blobs.copy_to(blob, path)


def _contents(path: Path) -> Iterator[bytes]:
    size_bytes = 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            size_bytes += len(piece)
            yield piece
    yield _padding(size_bytes)


def _header(name: str, size_bytes: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size_bytes, 0o644
    return info.tobuf()


def _padding(size_bytes: int) -> bytes:
    return bytes(-size_bytes % tarfile.BLOCKSIZE)


def lost(shown: str, error: Exception) -> ImageUnavailableError:
    """Return the refusal of an image whose blobs are gone."""
    return ImageUnavailableError(DELETED, f"The pushed image {shown} is not stored any more: {error}. Push it again.")
