"""Blobs as objects of a bucket, in any store that speaks S3's protocol."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from contract.blobs.digest import checked, digest_of, is_digest
from contract.blobs.store import BlobNotFoundError

T = TypeVar("T")
#: Digests, and ages in seconds. Named here: below, `list` is the store's method.
Page = list[tuple[str, float]]
Parts = list[dict[str, Any]]
log = logging.getLogger(__name__)

#: Larger files travel in parts of this size. S3 takes 10,000 parts, and 5 GB at most in one piece.
PART_BYTES: Final = 32 << 20
_COPY_BYTES: Final = 1 << 20
#: Uploads in parts that nobody finished for so long belong to a process that died.
STALE_UPLOAD: Final = timedelta(hours=24)
#: Requests at a time. Threads of our own: a slow store must not hold up file work, which uses asyncio's.
_THREADS: Final = 16
_NOT_FOUND: Final = frozenset({"NoSuchKey", "404"})


class BlobStoreUnavailableError(OSError):
    """The bucket did not do what it was asked. `str()` says which bucket, what was asked, and what it said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Where the blobs lie, and how one gets there. Credentials come from where boto3 finds them."""

    name: str
    #: Before every key; empty, or ending in a slash.
    prefix: str = ""
    #: None: Amazon's, whatever AWS_ENDPOINT_URL says, which often names a Lambda emulator.
    endpoint: str | None = None
    region: str | None = None
    #: Section of the shared AWS configuration files; None: boto3's usual search.
    profile: str | None = None
    connect_timeout_s: float = 5.0
    #: Silence after which a request has failed.
    read_timeout_s: float = 30.0
    #: How often a request is made at most, with growing pauses.
    attempts: int = 4


class S3BlobStore:
    """The BlobStore in a bucket, with keys `{prefix}ab/cd/abcd…`. The bucket is made by its owner.

    S3 shows an object whole or not at all, and acknowledges it when it is durable. Requests are signed together with
    their contents, so that a store refuses what was damaged on its way; what is read is compared with its digest.
    """

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._client: Any = None
        self._client_lock = threading.Lock()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="s3-blobs")

    async def put(self, data: bytes) -> str:
        """Store `data`, and return its digest. Raises BlobStoreUnavailableError."""
        return await self._in_thread(self._put, data)

    async def put_file(self, path: Path) -> str:
        """Store a file's contents, and return their digest. Raises OSError, also for a file that changes meanwhile."""
        return await self._in_thread(self._put_file, path)

    async def get(self, sha256: str) -> bytes:
        """Return the whole blob. Raises BlobNotFoundError; OSError when what is stored has been damaged."""
        return await self._in_thread(self._get, checked(sha256))

    async def copy_to(self, sha256: str, path: Path) -> None:
        """Write the blob to a new file at `path`, verifying its digest. Raises BlobNotFoundError.

        Raises OSError, having removed the copy, when it did not arrive whole.
        """
        await self._in_thread(self._copy_to, checked(sha256), path)

    async def exists(self, sha256: str) -> bool:
        """Tell whether the blob can be read now."""
        return await self._in_thread(self._age_s, checked(sha256)) is not None

    async def delete_if_older(self, sha256: str, age_s: float) -> bool:
        """Remove the blob if it was last put more than `age_s` seconds ago. Returns whether it was removed."""
        return await self._in_thread(self._delete_if_older, checked(sha256), age_s)

    async def list(self) -> AsyncIterator[tuple[str, float]]:
        """Yield each blob's digest and its age in seconds. Ends uploads in parts of processes that died."""
        await self._in_thread(self._end_stale_uploads)
        token: str | None = None
        while True:
            page, token = await self._in_thread(self._page, token)
            for blob in page:
                yield blob
            if token is None:
                return

    # --- in threads -------------------------------------------------------------------------------------------------

    async def _in_thread(self, work: Callable[..., T], *arguments: Any) -> T:
        """Cancelling stops the waiting; the request ends by its own deadlines."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(work, *arguments))

    def _s3(self) -> Any:
        # Making one reads files, and costs a tenth of a second: when first needed, once.
        with self._client_lock:
            if self._client is None:
                self._client = _client(self._bucket)
            return self._client

    def _put(self, data: bytes) -> str:
        sha256 = digest_of(data)
        with self._asking("put", sha256):
            self._s3().put_object(**self._object(sha256), Body=data)
        return sha256

    def _put_file(self, path: Path) -> str:
        with path.open("rb") as file:
            # The key must be known before the contents travel, so they are read twice.
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            is_large = file.tell() > PART_BYTES
            file.seek(0)
            if is_large:
                self._put_in_parts(sha256, file, path)
                return sha256
            data = file.read()
        if self._put(data) != sha256:
            raise _changed(path)
        return sha256

    def _put_in_parts(self, sha256: str, file: BinaryIO, path: Path) -> None:
        s3, where = self._s3(), self._object(sha256)
        with self._asking("begin to put", sha256):
            upload = {**where, "UploadId": s3.create_multipart_upload(**where)["UploadId"]}
        digest = hashlib.sha256()
        parts: Parts = []
        try:
            while chunk := file.read(PART_BYTES):
                digest.update(chunk)
                number = len(parts) + 1
                with self._asking(f"put part {number} of", sha256):
                    stored = s3.upload_part(**upload, PartNumber=number, Body=chunk)
                parts.append({"PartNumber": number, "ETag": stored["ETag"]})
            if digest.hexdigest() != sha256:
                raise _changed(path)
            with self._asking("complete", sha256):
                s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
        except BaseException:
            self._abort(upload)
            raise

    def _get(self, sha256: str) -> bytes:
        with self._asking("get", sha256):
            data: bytes = self._s3().get_object(**self._object(sha256))["Body"].read()
        if digest_of(data) != sha256:
            raise self._damaged(sha256, digest_of(data))
        return data

    def _copy_to(self, sha256: str, path: Path) -> None:
        digest = hashlib.sha256()
        with self._asking("get", sha256):
            body = self._s3().get_object(**self._object(sha256))["Body"]
        with contextlib.closing(body), path.open("xb") as target:
            try:
                with self._asking("get", sha256):
                    while chunk := body.read(_COPY_BYTES):
                        digest.update(chunk)
                        target.write(chunk)
                if digest.hexdigest() != sha256:
                    raise self._damaged(sha256, digest.hexdigest())
            except BaseException:
                path.unlink(missing_ok=True)
                raise

    def _age_s(self, sha256: str) -> float | None:
        try:
            with self._asking("look at", sha256):
                found = self._s3().head_object(**self._object(sha256))
        except BlobNotFoundError:
            return None
        return _age_s(found["LastModified"], found)

    def _delete_if_older(self, sha256: str, age_s: float) -> bool:
        age = self._age_s(sha256)
        if age is None or age <= age_s:
            return False
        # S3 can't delete on a condition about age: a put within these milliseconds would be lost.
        with self._asking("delete", sha256):
            self._s3().delete_object(**self._object(sha256))
        return True

    def _page(self, token: str | None) -> tuple[Page, str | None]:
        more = {"ContinuationToken": token} if token else {}
        with self._asking("list"):
            found = self._s3().list_objects_v2(Bucket=self._bucket.name, Prefix=self._bucket.prefix, **more)
        page: Page = []
        for item in found.get("Contents", ()):
            sha256 = self._blob_at(item["Key"])
            if sha256 is not None:
                page.append((sha256, _age_s(item["LastModified"], found)))
        return page, found.get("NextContinuationToken") if found.get("IsTruncated") else None

    def _end_stale_uploads(self) -> None:
        try:
            with self._asking("list unfinished uploads"):
                found = self._s3().list_multipart_uploads(Bucket=self._bucket.name, Prefix=self._bucket.prefix)
        except BlobStoreUnavailableError as error:
            # Not every store lists them, and a bucket's own rules may end them as well.
            log.warning("unfinished uploads of blobs are not known", extra={"error": str(error)})
            return
        for upload in found.get("Uploads", ()):
            is_ours = self._blob_at(upload["Key"]) is not None
            if is_ours and _age_s(upload["Initiated"], found) > STALE_UPLOAD.total_seconds():
                self._abort({"Bucket": self._bucket.name, "Key": upload["Key"], "UploadId": upload["UploadId"]})

    def _abort(self, upload: dict[str, Any]) -> None:
        try:
            self._s3().abort_multipart_upload(**upload)
        except (ClientError, BotoCoreError) as error:
            # Found again by a later listing.
            log.warning("an upload of a blob was not ended", extra={"key": upload["Key"], "error": str(error)})

    # --- names and errors -------------------------------------------------------------------------------------------

    def _key(self, sha256: str) -> str:
        return f"{self._bucket.prefix}{sha256[:2]}/{sha256[2:4]}/{sha256}"

    def _blob_at(self, key: str) -> str | None:
        """Return the blob that this key is of; None for what others keep beside ours."""
        sha256 = key.rpartition("/")[2]
        return sha256 if is_digest(sha256) and key == self._key(sha256) else None

    def _object(self, sha256: str) -> dict[str, str]:
        return {"Bucket": self._bucket.name, "Key": self._key(sha256)}

    @property
    def _place(self) -> str:
        at = f" at {self._bucket.endpoint}" if self._bucket.endpoint else ""
        return f"s3://{self._bucket.name}/{self._bucket.prefix}{at}"

    @contextmanager
    def _asking(self, what: str, sha256: str = "") -> Iterator[None]:
        meant = f"{what} {sha256 or 'blobs'}"
        try:
            yield
        except ClientError as error:
            if sha256 and error.response.get("Error", {}).get("Code") in _NOT_FOUND:
                raise BlobNotFoundError(f"no blob {sha256} in {self._place}") from None
            raise BlobStoreUnavailableError(
                f"could not {what} {sha256 or 'blobs'} in {self._place}: {error}"
            ) from error
        except BotoCoreError as error:
            raise BlobStoreUnavailableError(
                f"could not {meant} in {self._place}: {error}. Check LAMBDOCK_BLOB_URL, the way to "
                "the endpoint, and the credentials that boto3 finds (AWS_ACCESS_KEY_ID, a profile, a role)"
            ) from error

    def _damaged(self, sha256: str, found: str) -> OSError:
        return OSError(f"blob {sha256} in {self._place} is damaged: its contents have digest {found}")


def _client(bucket: Bucket) -> Any:
    session = boto3.Session(profile_name=bucket.profile, region_name=bucket.region)
    config = Config(
        connect_timeout=bucket.connect_timeout_s,
        read_timeout=bucket.read_timeout_s,
        retries={"mode": "standard", "total_max_attempts": bucket.attempts},
        max_pool_connections=_THREADS,
        ignore_configured_endpoint_urls=bucket.endpoint is None,
        # Checksums in trailers are unknown to many compatible stores; signed contents are not.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"payload_signing_enabled": True, "addressing_style": "path" if bucket.endpoint else "auto"},
    )
    # A region must be there to sign with, and a store of one's own usually has none.
    region = session.region_name or "us-east-1"
    return session.client("s3", endpoint_url=bucket.endpoint, region_name=region, config=config)


def _age_s(since: datetime, answer: dict[str, Any]) -> float:
    """By the store's own clock, which tells whole seconds; a store that names none is taken to agree with ours."""
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date", "")
    try:
        now = parsedate_to_datetime(date)
    except ValueError:
        now = datetime.now(UTC)
    return max(0.0, (now - since).total_seconds())


def _changed(path: Path) -> OSError:
    return OSError(f"{path} has changed while it was stored as a blob; nothing was stored. Store a copy of it")
