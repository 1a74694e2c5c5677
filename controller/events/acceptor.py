"""Accepts asynchronous events: 202 means that the event is on disk."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass

import orjson

from contract.blobs.store import BlobStore
from contract.bus.connection import RedisReplyError, RedisUnavailableError
from contract.bus.operations import Operations
from contract.messages import INLINE_LIMIT_BYTES
from controller.api.identity import Caller
from controller.domain.arn import FunctionIdentifier
from controller.domain.errors import PlatformError
from controller.events.durability import Durability, NotDurableError
from controller.invocation.versions import VersionCache

_DEADLINE_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EventTarget:
    """What an event is for; resolved when it is dispatched, so an alias or `$LATEST` is what it is then."""

    account: str
    region: str
    name: str
    qualifier: str | None

    def to_json(self) -> bytes:
        """Encode for the queue."""
        return orjson.dumps(asdict(self))

    @classmethod
    def from_json(cls, raw: bytes) -> EventTarget:
        """Decode what `to_json` made."""
        data = orjson.loads(raw)
        return cls(account=data["account"], region=data["region"], name=data["name"], qualifier=data["qualifier"])


class EventAcceptor:
    """Queues events. `operations` is on a bus of its own, which may block for a sync."""

    def __init__(
        self, operations: Operations, durability: Durability, blobs: BlobStore, versions: VersionCache
    ) -> None:
        self._operations = operations
        self._durability = durability
        self._blobs = blobs
        self._versions = versions

    async def accept(self, caller: Caller, name: FunctionIdentifier, event_id: str, payload: bytes) -> None:
        """Queue an event; on return it survives the loss of any process, and of power.

        Raises LambdaError for a function that is not there or not Active, PlatformError when it can't be kept.
        """
        # An event for a function that is gone would be dropped later, by nobody's fault but that of this answer.
        resolved = await self._versions.resolve_now(caller, name)
        resolved.check_invocable()
        target = EventTarget(account=caller.account, region=caller.region, name=name.name, qualifier=name.qualifier)
        try:
            async with asyncio.timeout(_DEADLINE_S):
                await self._durability.check()
                # The blob first: it is durable before anything refers to it, and a crash leaves it to the collector.
                blob = await self._blobs.put(payload) if len(payload) > INLINE_LIMIT_BYTES else ""
                inline = b"" if blob else payload
                uid = resolved.launch.function_uid
                while True:
                    server = self._operations.bus.run_id
                    await self._operations.enqueue(event_id, uid, target.to_json(), inline, blob)
                    await self._durability.barrier()
                    if server == self._operations.bus.run_id:
                        return
                    # A server that came between has synced, maybe without the event: queue it again, under its id.
        except (NotDurableError, RedisUnavailableError, RedisReplyError, TimeoutError, OSError) as error:
            raise PlatformError(f"event {event_id} could not be kept: {error}") from error
