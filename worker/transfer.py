"""The direct channel to a controller, for bodies too large for Redis; and blobs for the payloads of large events."""

from __future__ import annotations

from typing import Final

import httpx

from contract.blobs.store import BlobNotFoundError, BlobStore

#: Bodies are at most 6 MB, over a local network.
_TIMEOUT_S: Final = 20.0


class TransferError(Exception):
    """A body could not be moved; `str()` says where and why."""


class Transfer:
    """Fetches payloads and delivers answers. Each address carries a token that works once."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._client = httpx.AsyncClient(timeout=_TIMEOUT_S, trust_env=False)

    async def fetch(self, url: str) -> bytes:
        """Return the payload that a controller holds for one invocation. Raises TransferError."""
        try:
            response = await self._client.get(url)
            response.raise_for_status()
        except httpx.HTTPError as error:
            raise TransferError(f"the payload could not be fetched from its controller: {error}") from error
        return response.content

    async def put(self, url: str, body: bytes) -> None:
        """Deliver an answer to the controller that waits for it. Raises TransferError."""
        try:
            response = await self._client.put(url, content=body)
            response.raise_for_status()
        except httpx.HTTPError as error:
            raise TransferError(f"the answer could not be delivered to its controller: {error}") from error

    async def blob(self, sha256: str) -> bytes:
        """Return the payload of a large event. Raises TransferError."""
        try:
            return await self._blobs.get(sha256)
        except (BlobNotFoundError, OSError) as error:
            raise TransferError(f"the event's payload {sha256} can't be read: {error}") from error

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()
