"""Which blobs somebody still needs."""

from __future__ import annotations

import logging
from typing import Protocol

from contract.blobs.store import BlobNotFoundError
from contract.images import ImageManifest

log = logging.getLogger(__name__)


class FunctionBlobs(Protocol):
    """What functions name; see FunctionStore."""

    async def referenced_blobs(self) -> set[str]:
        """Return the digests of all blobs that releases name."""
        ...

    async def referenced_images(self) -> set[str]:
        """Return those of them that describe pushed images."""
        ...


class LayerBlobs(Protocol):
    """What layer versions name; see LayerStore."""

    async def referenced_blobs(self) -> set[str]:
        """Return the digests of all packages of layer versions."""
        ...


class ImageBlobs(Protocol):
    """What accounts have pushed; see ImageStore."""

    async def manifests(self) -> set[str]:
        """Return the digests of the descriptions of all pushed images."""
        ...


class BlobSource(Protocol):
    """The one method of the blob store that is needed here."""

    async def get(self, sha256: str) -> bytes:
        """Return the whole blob. Raises BlobNotFoundError."""
        ...


class BlobReferences:
    """Looks into everything that names blobs, but for queued events."""

    def __init__(self, *, functions: FunctionBlobs, layers: LayerBlobs, images: ImageBlobs, blobs: BlobSource) -> None:
        self._functions = functions
        self._layers = layers
        self._images = images
        self._blobs = blobs

    async def referenced_blobs(self) -> set[str]:
        """Return the digests of all blobs that a layer, a pushed image or a release names, directly or by a manifest.

        Functions are looked at last: a layer or an image that is forgotten meanwhile is still named by those that use
        it. Raises ValueError for a manifest that this release can't read: what it lists may be needed.
        """
        needed = await self._layers.referenced_blobs()
        manifests = await self._images.manifests()
        needed |= await self._functions.referenced_blobs()
        manifests |= await self._functions.referenced_images()
        for digest in manifests:
            needed |= await self._listed(digest)
        return needed | manifests

    async def _listed(self, digest: str) -> frozenset[str]:
        try:
            return ImageManifest.from_json(await self._blobs.get(digest)).blobs
        except BlobNotFoundError:
            log.error("the description of a pushed image is gone; push it again", extra={"sha256": digest})
            return frozenset()
        except ValueError as error:
            raise ValueError(f"blob {digest} describes no image, so that no blob may be removed: {error}") from error
