"""Takes in deployment packages: checked, stored as blobs, then named by a Package."""

from __future__ import annotations

import asyncio
from typing import Protocol

from contract.packages import PackageError, verify_zip
from controller.domain import errors
from controller.domain.function import Package
from controller.domain.validation import ZIPPED_MAX_BYTES

STORE_DEADLINE_S = 120.0


class BlobSink(Protocol):
    """The one method of the blob store that is needed here."""

    async def put(self, data: bytes) -> str:
        """Store `data` durably and return its hex sha256."""
        ...


async def check_package(data: bytes) -> int:
    """Return the unzipped size in bytes. Raises InvalidParameterValueError with AWS's text for a bad package."""
    if len(data) > ZIPPED_MAX_BYTES:
        raise errors.InvalidParameterValueError(errors.ZIPPED_TOO_LARGE)
    try:
        return await asyncio.to_thread(verify_zip, data)
    except PackageError as error:
        if error.kind == "too_large_unzipped":
            raise errors.InvalidParameterValueError(errors.UNZIPPED_TOO_LARGE) from error
        # A path that leaves the package is no package either; AWS has the same answer for both.
        raise errors.InvalidParameterValueError(errors.NOT_A_ZIP) from error


async def store_package(blobs: BlobSink, data: bytes) -> Package:
    """Check and store a package; durable on return, so that no row ever names a missing blob."""
    unzipped_bytes = await check_package(data)
    async with asyncio.timeout(STORE_DEADLINE_S):
        sha256 = await blobs.put(data)
    return Package(sha256=sha256, size_bytes=len(data), unzipped_bytes=unzipped_bytes)
