"""Signed links to packages of functions and layers, as GetFunction hands them out, and the route behind them."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO, Protocol

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from contract.blobs.store import BlobNotFoundError
from controller.domain.errors import AccessDeniedError, ResourceNotFoundError
from controller.packages.scratch import scratch_file

LIFETIME = timedelta(minutes=10)
_PATH = "/_lambdock/code/{sha256}"
_READ_DEADLINE_S = 60.0
_PIECE_BYTES = 1 << 20


class BlobSource(Protocol):
    """The one method of the blob store that is needed here."""

    async def copy_to(self, sha256: str, path: Path) -> None:
        """Write the blob to a new file at `path`, verifying its digest. Raises BlobNotFoundError."""
        ...


class CodeLinks:
    """Makes links that open one package for some minutes, to whoever holds them."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def link(self, base_url: str, sha256: str) -> str:
        """Return an absolute URL below `base_url`."""
        expires = int((datetime.now(UTC) + LIFETIME).timestamp())
        return (
            f"{base_url.rstrip('/')}/_lambdock/code/{sha256}?expires={expires}&signature={self._sign(sha256, expires)}"
        )

    def check(self, sha256: str, expires: str, signature: str) -> None:
        """Raise AccessDeniedError unless `link` made these and they have not expired."""
        if not expires.isascii() or not expires.isdigit() or len(expires) > 12:
            raise _refused("is malformed")
        expected = self._sign(sha256, int(expires))
        if not hmac.compare_digest(expected.encode(), signature.encode()):
            raise _refused("is not valid")
        if int(expires) < datetime.now(UTC).timestamp():
            raise _refused("has expired")

    def _sign(self, sha256: str, expires: int) -> str:
        return hmac.new(self._secret, f"{sha256}:{expires}".encode(), hashlib.sha256).hexdigest()


def _refused(why: str) -> AccessDeniedError:
    return AccessDeniedError(f"The link to this package {why}; call GetFunction or GetLayerVersion for a new one.")


def load_secret(path: Path) -> bytes:
    """Return the secret kept at `path` (0600), making it first if need be. Safe for several processes at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(32))
                file.flush()
                os.fsync(file.fileno())
            # Unlike a rename, a link never replaces the secret that another process has just made.
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_bytes()


def code_router(links: CodeLinks, blobs: BlobSource, scratch: Path) -> APIRouter:
    """Serve the packages behind the links, from files in `scratch`: they may have 250 MB, and clients may be slow."""
    router = APIRouter(tags=["code"])

    async def download(request: Request, sha256: str) -> Response:
        query = request.query_params
        links.check(sha256, query.get("expires", ""), query.get("signature", ""))
        try:
            async with asyncio.timeout(_READ_DEADLINE_S):
                file = await _copied(blobs, sha256, scratch)
        except (BlobNotFoundError, ValueError) as error:
            raise ResourceNotFoundError(f"The package {sha256} is no longer stored.") from error
        size = {"Content-Length": str(os.fstat(file.fileno()).st_size)}
        return StreamingResponse(_pieces(file), headers=size, media_type="application/zip")

    router.add_api_route(_PATH, download, methods=["GET"], response_model=None)
    return router


async def _copied(blobs: BlobSource, sha256: str, scratch: Path) -> BinaryIO:
    """Return a copy of the blob that has no name any more: it is gone when it is closed."""
    with scratch_file(scratch) as path:
        await blobs.copy_to(sha256, path)
        return path.open("rb")


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while piece := file.read(_PIECE_BYTES):
            yield piece
