"""Where deployment packages come from, and where they go."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from controller.domain.errors import PlatformError


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadedZip:
    """A package that came with the request."""

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Object:
    """A package that lies in a bucket."""

    bucket: str
    key: str
    #: None: whatever is newest.
    version: str | None = None


PackageSource = UploadedZip | S3Object


class ObjectTooLargeError(Exception):
    """The object has more bytes than were asked for."""


class ObjectStoreUnavailableError(PlatformError):
    """The bucket's server did not answer as it should; the text says which, what it said, and what to look at."""


class ObjectSource(Protocol):
    """Buckets that packages may be fetched from."""

    async def fetch(self, wanted: S3Object, path: Path, *, limit_bytes: int) -> None:
        """Write the object to a new file at `path`, in bounded memory and time.

        Raises InvalidParameterValueError or AccessDeniedError, as Lambda words it, for what S3 refuses;
        ObjectTooLargeError beyond `limit_bytes`; ObjectStoreUnavailableError for failures that are not the caller's.
        After an error, and after a cancellation, there may be a part of the object at `path`, which is the caller's to
        remove.
        """
        ...


class BlobSink(Protocol):
    """What is needed of the blob store here; see `contract.blobs.store.BlobStore`."""

    async def put(self, data: bytes) -> str:
        """Store `data` durably and return its hex sha256."""
        ...

    async def put_file(self, path: Path) -> str:
        """Store a file's contents durably and return their hex sha256."""
        ...
