"""Takes in deployment packages: fetched, checked, and stored as blobs, in this order."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from contract.packages import MAX_UNZIPPED_BYTES, PackageError, verify_zip
from controller.domain import errors
from controller.domain.release import Package
from controller.domain.validation import ZIPPED_MAX_BYTES
from controller.packages.ports import BlobSink, ObjectSource, ObjectTooLargeError, PackageSource, S3Object, UploadedZip
from controller.packages.scratch import scratch_file

STORE_DEADLINE_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """A package that has been checked and is not stored yet."""

    package: Package
    _contents: bytes | Path
    _blobs: BlobSink

    async def store(self) -> Package:
        """Store it; durable on return, so that no row ever names a missing blob."""
        async with asyncio.timeout(STORE_DEADLINE_S):
            if isinstance(self._contents, bytes):
                await self._blobs.put(self._contents)
            else:
                await self._blobs.put_file(self._contents)
        return self.package


class PackageIntake:
    """The only way by which packages of functions and of layers get into the blob store."""

    def __init__(self, blobs: BlobSink, *, objects: ObjectSource | None = None, scratch: Path | None = None) -> None:
        self._blobs = blobs
        #: None where the operator has named no endpoint.
        self._objects = objects
        #: Where fetched objects lie until they are blobs.
        self._scratch = scratch or Path(tempfile.gettempdir())

    async def take(self, source: PackageSource) -> Package:
        """Check and store a package. Raises LambdaError for whatever Lambda would not accept, and stores nothing."""
        async with self.open(source) as incoming:
            return await incoming.store()

    @asynccontextmanager
    async def open(self, source: PackageSource) -> AsyncIterator[Incoming]:
        """Check a package, which the caller then may store until the block is left. Raises as `take`."""
        if isinstance(source, UploadedZip):
            if len(source.data) > ZIPPED_MAX_BYTES:
                raise errors.InvalidParameterValueError(errors.ZIPPED_TOO_LARGE)
            yield await self._checked(source.data)
            return
        objects = self._objects
        if objects is None:
            raise errors.not_supported(
                "S3Bucket", "pass the package as ZipFile, or have the operator set LAMBDOCK_S3_ENDPOINT"
            )
        with scratch_file(self._scratch) as path:
            yield await self._fetched(objects, source, path)

    async def _fetched(self, objects: ObjectSource, wanted: S3Object, path: Path) -> Incoming:
        try:
            # From a bucket, Lambda limits only what comes out of the zip; no larger zip holds less.
            await objects.fetch(wanted, path, limit_bytes=MAX_UNZIPPED_BYTES)
        except ObjectTooLargeError as error:
            raise errors.InvalidParameterValueError(errors.UNZIPPED_TOO_LARGE) from error
        return await self._checked(path)

    async def _checked(self, contents: bytes | Path) -> Incoming:
        package = await asyncio.to_thread(_examine, contents)
        return Incoming(package=package, _contents=contents, _blobs=self._blobs)


def _examine(contents: bytes | Path) -> Package:
    try:
        unzipped_bytes = verify_zip(contents)
    except PackageError as error:
        if error.kind == "too_large_unzipped":
            raise errors.InvalidParameterValueError(errors.UNZIPPED_TOO_LARGE) from error
        # A path that leaves the package is no package either; AWS has the same answer for both.
        raise errors.InvalidParameterValueError(errors.NOT_A_ZIP) from error
    if isinstance(contents, bytes):
        sha256, size_bytes = hashlib.sha256(contents).hexdigest(), len(contents)
    else:
        with contents.open("rb") as file:
            sha256, size_bytes = hashlib.file_digest(file, "sha256").hexdigest(), file.tell()
    return Package(sha256=sha256, size_bytes=size_bytes, unzipped_bytes=unzipped_bytes)
