"""Fetches packages from buckets, by S3's protocol, from the endpoint that the operator has named."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from controller.domain import errors
from controller.packages.ports import ObjectStoreUnavailableError, ObjectTooLargeError, S3Object

#: For one object, from the request to its last byte: less than SDKs wait for Lambda's answer, with retries.
FETCH_DEADLINE_S: Final = 50.0
_CONNECT_TIMEOUT_S: Final = 3.0
#: Silence after which a request has failed.
_READ_TIMEOUT_S: Final = 10.0
_CHUNK_BYTES: Final = 1 << 20
#: Fetches at a time. Threads of our own: a slow server must not hold up file work, which uses asyncio's.
_THREADS: Final = 4
#: How S3 says that the caller may not read what it names.
_DENIED: Final = frozenset({"AccessDenied", "AllAccessDisabled", "AccountProblem", "403"})


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Endpoint:
    """Where the buckets are, and how one gets at them."""

    url: str
    region: str
    #: Both empty: credentials come from where boto3 finds them.
    access_key: str = ""
    secret_key: str = field(default="", repr=False)


class S3Objects:
    """The ObjectSource on an S3-compatible server, whose buckets are named by path."""

    def __init__(self, endpoint: S3Endpoint, *, deadline_s: float = FETCH_DEADLINE_S) -> None:
        self._endpoint = endpoint
        self._deadline_s = deadline_s
        self._client: Any = None
        self._client_lock = threading.Lock()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="s3-packages")

    async def fetch(self, wanted: S3Object, path: Path, *, limit_bytes: int) -> None:
        """See ObjectSource."""
        ends_at = time.monotonic() + self._deadline_s
        is_given_up = threading.Event()
        run = partial(self._fetch, wanted, path, limit_bytes, ends_at, is_given_up)
        try:
            async with asyncio.timeout(self._deadline_s):
                # After the time-out the thread ends by itself, at its next chunk or its own time-out.
                await asyncio.get_running_loop().run_in_executor(self._threads, run)
        except TimeoutError as error:
            raise self._unavailable(wanted, f"it took more than {self._deadline_s:g} s") from error
        finally:
            is_given_up.set()

    def close(self) -> None:
        """End the threads as soon as they are done, and close the connections."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._client is not None:
            self._client.close()

    def _fetch(
        self, wanted: S3Object, path: Path, limit_bytes: int, ends_at: float, is_given_up: threading.Event
    ) -> None:
        try:
            self._get(wanted, path, limit_bytes, ends_at)
        finally:
            if is_given_up.is_set():
                # Whoever would remove it may have done so before it was made.
                path.unlink(missing_ok=True)

    def _get(self, wanted: S3Object, path: Path, limit_bytes: int, ends_at: float) -> None:
        if time.monotonic() >= ends_at:
            raise TimeoutError  # It has waited for a thread too long.
        version = {} if wanted.version is None else {"VersionId": wanted.version}
        try:
            answer = self._connected().get_object(Bucket=wanted.bucket, Key=wanted.key, **version)
            body = answer["Body"]
            try:
                if int(answer.get("ContentLength", 0)) > limit_bytes:
                    raise ObjectTooLargeError
                _copy(body, path, limit_bytes, ends_at)
            finally:
                body.close()
        except ClientError as error:
            raise self._refusal(wanted, error) from error
        except BotoCoreError as error:
            raise self._unavailable(wanted, str(error)) from error

    def _connected(self) -> Any:
        # Clients may be shared by threads; sessions, which make them, may not.
        with self._client_lock:
            if self._client is None:
                self._client = _client(self._endpoint, min(_READ_TIMEOUT_S, self._deadline_s))
            return self._client

    def _refusal(self, wanted: S3Object, error: ClientError) -> Exception:
        said: dict[str, Any] = error.response.get("Error", {})
        about: dict[str, Any] = error.response.get("ResponseMetadata", {})
        code, text = str(said.get("Code", "")), str(said.get("Message", ""))
        if int(about.get("HTTPStatusCode", 0)) >= 500:
            return self._unavailable(wanted, f"{code}: {text}")
        if code in _DENIED:
            return errors.s3_denied(wanted.bucket, wanted.key, text)
        region = about.get("HTTPHeaders", {}).get("x-amz-bucket-region") or said.get("Region")
        if region and region != self._endpoint.region:
            return errors.s3_elsewhere(str(region))
        return errors.s3_refused(code, text)

    def _unavailable(self, wanted: S3Object, reason: str) -> ObjectStoreUnavailableError:
        return ObjectStoreUnavailableError(
            f"could not fetch s3://{wanted.bucket}/{wanted.key} from {self._endpoint.url}: {reason}. Check"
            " LAMBDOCK_S3_ENDPOINT and the way to it, and the credentials (LAMBDOCK_S3_ACCESS_KEY and"
            " LAMBDOCK_S3_SECRET_KEY, or what boto3 finds)"
        )


def _copy(body: Any, path: Path, limit_bytes: int, ends_at: float) -> None:
    copied = 0
    with path.open("xb") as file:
        while chunk := body.read(_CHUNK_BYTES):
            copied += len(chunk)
            if copied > limit_bytes:
                raise ObjectTooLargeError
            if time.monotonic() >= ends_at:
                raise TimeoutError
            file.write(chunk)


def _client(endpoint: S3Endpoint, read_timeout_s: float) -> Any:
    # Only who uses buckets pays for boto3's import, a third of a second.
    import boto3

    session = boto3.Session(region_name=endpoint.region)
    keys = {}
    if endpoint.access_key:
        keys = {"aws_access_key_id": endpoint.access_key, "aws_secret_access_key": endpoint.secret_key}
    config = Config(
        connect_timeout=_CONNECT_TIMEOUT_S,
        read_timeout=read_timeout_s,
        retries={"mode": "standard", "total_max_attempts": 2},
        max_pool_connections=_THREADS,
        # Checksums in trailers are unknown to many compatible servers.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path"},
    )
    return session.client("s3", endpoint_url=endpoint.url, config=config, **keys)
