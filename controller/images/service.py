"""Takes in pushed images, and tells which there are."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from contract.images import is_image_name, split_pushed_uri
from controller.domain import errors
from controller.domain.stamp import StampSource, system_stamp
from controller.images.archive import ArchiveError, CheckedImage, Index, check_archive
from controller.images.ports import ImageStore, PushedImage
from controller.images.spool import ArchiveTooLongError, copy_region, path_of, receive, unnamed_file

#: Archives taken in at a time, by a process: each needs the disk for the archive, and a core. More wait, unread.
MAX_PUSHES: Final = 2
#: An archive's headers and padding, beyond what its layers have.
_OVERHEAD_BYTES: Final = 64 << 20
_STORE_DEADLINE_S: Final = 3_600.0
#: The name of an image that neither its sender nor its archive names.
_NAMELESS: Final = "image"


class BlobSink(Protocol):
    """The methods of the blob store that are needed here."""

    async def put(self, data: bytes) -> str:
        """Store `data` durably and return its hex sha256."""
        ...

    async def put_file(self, path: Path) -> str:
        """Store a file's contents durably and return their hex sha256."""
        ...


class ImageService:
    """The operations on pushed images. An image's blobs are stored before the record that keeps them."""

    def __init__(
        self,
        *,
        store: ImageStore,
        blobs: BlobSink,
        spool: Path,
        limit_bytes: int,
        stamps: StampSource = system_stamp,
    ) -> None:
        """`spool`: a directory for archives on their way; `limit_bytes`: of an image's layers, unpacked."""
        self._store = store
        self._blobs = blobs
        self._spool = spool
        self._limit_bytes = limit_bytes
        self._stamps = stamps
        self._turns = asyncio.Semaphore(MAX_PUSHES)

    async def push(
        self, account: str, body: AsyncIterator[bytes], *, name: str | None = None, wanted: str | None = None
    ) -> PushedImage:
        """Take in a `docker save` archive; `name` is what the image will be called, `wanted` names one of several.

        Raises InvalidParameterValueError or RequestTooLargeError, saying why; nothing is stored then.
        """
        if name is not None:
            _check_name(name)
        async with self._turns, unnamed_file(self._spool) as file:
            try:
                index = await receive(body, file, limit_bytes=self._limit_bytes + _OVERHEAD_BYTES)
                checked = await self._check(file, index, wanted)
            except ArchiveTooLongError as error:
                raise errors.RequestTooLargeError(f"Could not take in the image: {error}.") from error
            except ArchiveError as error:
                raise errors.InvalidParameterValueError(f"Could not take in the image: {error}.") from error
            async with asyncio.timeout(_STORE_DEADLINE_S):
                await self._keep(file, checked)
        manifest = checked.manifest
        image = PushedImage(
            account=account,
            name=name or _name_from(checked.tags),
            manifest_sha256=manifest.digest,
            config_sha256=manifest.config,
            architecture=manifest.architecture,
            size_bytes=manifest.total_bytes,
            pushed_at=self._stamps().at,
        )
        await self._store.add(image)
        return image

    async def find(self, account: str, uri: str) -> PushedImage | None:
        """Return the account's pushed image of this URI; None when it has none, or the URI is a registry's."""
        named = split_pushed_uri(uri)
        return await self._store.find(account, *named) if named is not None else None

    async def list(self, account: str, *, after: tuple[str, str], limit: int) -> Sequence[PushedImage]:
        """Return a page of the account's images, by name and digest."""
        return await self._store.page(account, after=after, limit=limit)

    async def manifests(self) -> set[str]:
        """Return the manifest digests of all images of all accounts, for the collector."""
        return await self._store.manifests()

    async def remove(self, account: str, uri: str) -> None:
        """Forget an image; functions that use it go on. Raises ResourceNotFoundError."""
        named = split_pushed_uri(uri)
        if named is None or not await self._store.remove(account, *named):
            raise errors.ResourceNotFoundError(f"Image not found: {uri[:300]}")

    async def _check(self, file: BinaryIO, index: Index, wanted: str | None) -> CheckedImage:
        stop = threading.Event()
        try:
            return await asyncio.to_thread(
                check_archive, file, index, wanted=wanted, limit_bytes=self._limit_bytes, stop=stop
            )
        finally:
            # A cancelled push must not keep a thread reading.
            stop.set()

    async def _keep(self, file: BinaryIO, checked: CheckedImage) -> None:
        """Store all blobs, those that others have stored as well: a new put keeps the collector from an old one."""
        for digest, region in checked.regions.items():
            async with unnamed_file(self._spool) as blob:
                await asyncio.to_thread(copy_region, file, region, blob)
                stored = await self._blobs.put_file(path_of(blob))
            if stored != digest:
                raise OSError(f"the spooled archive has changed while it was stored: {digest} became {stored}")
        await self._blobs.put(checked.manifest.to_json())


def _check_name(name: str) -> None:
    if not is_image_name(name):
        raise errors.InvalidParameterValueError(
            f"Image name {name[:200]!r} is not valid: expected lower-case letters, digits and single . _ - between"
            " them, parts separated by slashes, 128 characters at most."
        )


def _name_from(tags: Sequence[str]) -> str:
    """Return the repository of the first tag without its registry: `host:5000/team/app:1` is `team/app`."""
    for tag in tags:
        repository = tag.rpartition(":")[0] if ":" in tag.rpartition("/")[2] else tag
        first, slash, rest = repository.partition("/")
        if slash and ("." in first or ":" in first or first == "localhost"):
            repository = rest
        if is_image_name(repository):
            return repository
    return _NAMELESS
