"""The wire form of where a package comes from, which functions and layers share."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from controller.api.wire import WireModel
from controller.domain import errors
from controller.packages.ports import PackageSource, S3Object, UploadedZip

#: What names an object of a bucket.
S3_MEMBERS = ("S3Bucket", "S3Key", "S3ObjectVersion")


class ContentModel(WireModel):
    """A zip archive: inline, or in a bucket."""

    ZipFile: str | None = None
    S3Bucket: str | None = None
    S3Key: str | None = None
    S3ObjectVersion: str | None = None
    S3ObjectStorageMode: str | None = None


def package_source(members: Mapping[str, Any], *, missing: str = errors.CODE_MISSING) -> PackageSource:
    """Return the source that the members name. Raises InvalidParameterValueError for two, or (`missing`) for none.

    Decoding a large archive takes a while: call it in a thread.
    """
    if members.get("S3ObjectStorageMode") == "REFERENCE":
        raise errors.not_supported("S3ObjectStorageMode REFERENCE", "use COPY, or leave it out")
    encoded = members.get("ZipFile")
    if encoded:
        if any(members.get(name) for name in (*S3_MEMBERS, "ImageUri")):
            raise errors.InvalidParameterValueError(errors.ZIP_FILE_ALONE)
        try:
            return UploadedZip(data=base64.b64decode(encoded, validate=True))
        except ValueError as error:
            raise errors.SerializationError(f"ZipFile is not base64: {error}") from error
    bucket, key, version = (members.get(name) for name in S3_MEMBERS)
    if not bucket or not key:
        raise errors.InvalidParameterValueError(missing)
    return S3Object(bucket=bucket, key=key, version=version)
