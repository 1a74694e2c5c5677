"""The scripts as typed functions: what may be done to the cell's state, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import orjson

from contract.bus.redis_bus import RedisBus

#: A worker that has not been heard of for so long gets no work, and is fenced.
LEASE_MS: Final = 5000
#: An environment that has just served is not evicted for another function's sake, against ping-pong.
RESIDENCY_MS: Final = 2000
#: How long a claimed event may take to be dispatched, dropped or deferred.
CLAIM_MS: Final = 15_000
#: How long a deleted function's tombstone refuses callers with an older view of it.
TOMBSTONE_MS: Final = 3_600_000
#: A fenced worker of which nobody reports that its sandboxes are dead is buried after the longest time-out and a
#: margin. Nothing but the loss of their Runtime API ends its sandboxes before (docs/adr/0002).
BURY_AFTER_MS: Final = 960_000
MAX_MOVES: Final = 2
#: How long a controller's side door is announced for; it announces it again every few seconds.
DOOR_MS: Final = 10_000


class Verdict(StrEnum):
    """What dispatch said."""

    DISPATCHED = "dispatched"
    #: The cell is reconciling after a change of Redis: try again in a moment.
    PAUSED = "paused"
    #: Redis has not heard of the function (it lost its data): publish its head, try again.
    UNKNOWN = "unknown"
    #: The caller's view of the function is not the current one: reload it, try again.
    STALE = "stale"
    THROTTLED = "throttled"
    #: No worker has memory for another environment.
    FULL = "full"
    NO_WORKERS = "no_workers"
    #: The event is not this caller's to run any more.
    GONE = "gone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatch:
    """The answer to a dispatch."""

    verdict: Verdict
    #: AWS's throttle reason when throttled.
    reason: str = ""
    instance: str = ""
    is_cold: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class InvocationRequest:
    """One attempt to run an invocation."""

    #: Unique to this attempt; the request id, with `#n` behind it from the second attempt of an event on.
    id: str
    function_uid: str
    generation: int
    version_key: str
    memory_mb: int
    controller: str
    header: bytes
    payload: bytes
    launch: bytes
    event: str = ""


class Completion(StrEnum):
    """What complete said about the environment."""

    IDLE = "idle"
    DESTROY = "destroy"
    IGNORED = "ignored"
    FENCED = "fenced"
    #: Redis has lost the instance: complete again when it has reconciled.
    UNKNOWN = "unknown"


class WorkerState(StrEnum):
    """What the cell thinks of an instance. `UNKNOWN`: Redis lost it, reconcile."""

    LIVE = "live"
    DRAINING = "draining"
    FENCED = "fenced"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """A new life of a worker."""

    instance: str
    epoch: int
    #: Earlier lives of the same worker that still own something: to be fenced, swept and buried.
    predecessors: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedEvent:
    """An asynchronous event that this controller is to dispatch now."""

    id: str
    function_uid: str
    header: bytes
    payload: bytes
    blob: str
    accepted_ms: int
    #: 1 at the first attempt.
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerView:
    """What an instance knows of itself, for `reconcile`."""

    engine_id: str
    epoch: int
    memory_mb: int
    info: bytes
    held: Mapping[str, Mapping[str, Any]]
    idle: Mapping[str, Mapping[str, int]]
    reserved: Mapping[str, int]
    last_inbox: bytes


class Operations:
    """All changes of the cell's state. Each is one script, atomic and idempotent; see its file for the races."""

    def __init__(self, bus: RedisBus) -> None:
        self.bus = bus

    async def dispatch(self, request: InvocationRequest, *, last_reply: bytes = b"", retry_s: float = 8.0) -> Dispatch:
        """Admit an invocation and push it to a worker, or say why not. `last_reply` trims this controller's replies."""
        answer = await self.bus.script(
            "dispatch",
            request.id,
            request.function_uid,
            request.generation,
            request.version_key,
            request.memory_mb,
            request.controller,
            request.header,
            request.payload,
            request.launch,
            request.event,
            last_reply,
            LEASE_MS,
            RESIDENCY_MS,
            retry_s=retry_s,
        )
        verdict = Verdict(answer[0].decode())
        if verdict is Verdict.DISPATCHED:
            return Dispatch(verdict=verdict, instance=answer[1].decode(), is_cold=answer[2] == b"cold")
        return Dispatch(verdict=verdict, reason=answer[1].decode() if len(answer) > 1 else "")

    async def complete(  # noqa: PLR0913 - the script's own arguments
        self,
        instance: str,
        invocation_id: str,
        *,
        is_reusable: bool,
        header: bytes,
        payload: bytes,
        acknowledge: bool = True,
        retry_ms: int = 0,
        last_inbox: bytes = b"",
        retry_s: float = 8.0,
    ) -> Completion:
        """End an invocation: slot back, environment idle or to be destroyed, caller answered, event acknowledged."""
        answer = await self.bus.script(
            "complete",
            instance,
            invocation_id,
            "idle" if is_reusable else "dead",
            header,
            payload,
            int(acknowledge),
            retry_ms,
            last_inbox,
            retry_s=retry_s,
        )
        return Completion(answer[0].decode())

    async def release(self, instance: str, *environment_ids: str) -> int:
        """Give back the memory of environments that are known to be gone. Returns how many were still reserved."""
        return int(await self.bus.script("release", instance, *environment_ids))

    async def retire_idle(self, instance: str, version_key: str, memory_mb: int) -> bool:
        """Take back one idle token; False when its environment has just been given to an invocation."""
        return bool(await self.bus.script("retire_idle", instance, version_key, memory_mb))

    async def handback(self, instance: str, invocation_id: str, header: bytes, payload: bytes, launch: bytes) -> str:
        """Move an invocation that no runtime has seen to another worker: `moved`, `exhausted`, `ignored`, `fenced`."""
        answer = await self.bus.script(
            "handback", instance, invocation_id, header, payload, launch, LEASE_MS, MAX_MOVES
        )
        return str(answer[0].decode())

    async def register(self, worker: str, engine_id: str, memory_mb: int, info: bytes) -> Registration:
        """Begin a new life of a worker."""
        answer = [item.decode() for item in await self.bus.script("register", worker, engine_id, memory_mb, info)]
        return Registration(instance=answer[0], epoch=int(answer[1]), predecessors=tuple(answer[2:]))

    async def heartbeat(self, instance: str, *, is_placeable: bool, is_draining: bool, info: bytes) -> WorkerState:
        """Renew the lease, and learn what the cell thinks of this instance."""
        answer = await self.bus.script("heartbeat", instance, int(is_placeable), int(is_draining), info)
        return WorkerState(answer.decode())

    async def fence(self, instance: str, header: bytes, *, only_if_silent: bool, retry_ms: int = 0) -> int:
        """End an instance's authority; answer its callers with `header`. -1 when it was heard of lately."""
        return int(await self.bus.script("fence", instance, header, LEASE_MS if only_if_silent else 0, retry_ms))

    async def bury(self, instance: str, *, min_age_ms: int = 0) -> bool:
        """Forget a fenced instance whose sandboxes are known to be dead (or must be, at `min_age_ms`)."""
        return bool(await self.bus.script("bury", instance, min_age_ms))

    async def end_unknown(self, instance: str) -> bool:
        """End a life that Redis knows nothing of, so that it can't report any more; False when it is known."""
        return bool(await self.bus.script("end_unknown", instance))

    async def reconcile(self, instance: str, view: WorkerView, header: bytes) -> WorkerState:
        """Replace Redis's view of an instance by its own."""
        answer = await self.bus.script(
            "reconcile",
            instance,
            view.engine_id,
            view.epoch,
            view.memory_mb,
            view.info,
            orjson.dumps(view.held),
            orjson.dumps(view.idle),
            orjson.dumps(view.reserved),
            view.last_inbox,
            header,
        )
        return WorkerState(answer.decode())

    async def publish(self, uid: str, generation: int, reserved: int | None, account: str, limit: int) -> int:
        """Make a function's head known to admission. `account` is `account:region`. -1 when it has been deleted."""
        cap = -1 if reserved is None else reserved
        return int(await self.bus.script("publish", uid, generation, cap, account, limit))

    async def retire_function(self, uid: str) -> int:
        """Refuse a deleted function from now on; returns how many queued events went with it."""
        return int(await self.bus.script("retire_function", uid, TOMBSTONE_MS))

    async def retire_version(self, uid: str, version_key: str) -> bool:
        """Refuse a deleted version from now on; False when the function is not known."""
        return bool(await self.bus.script("retire_version", uid, version_key))

    async def enqueue(self, event: str, uid: str, header: bytes, payload: bytes, blob: str) -> bool:
        """Queue an asynchronous event; False when it was there already. Not yet proof against power loss: see fsync."""
        return bool(await self.bus.script("enqueue", event, uid, header, payload, blob))

    async def claim(self, controller: str, limit: int) -> list[ClaimedEvent]:
        """Take the next due events, to be dispatched, deferred or dropped within `CLAIM_MS`."""
        answer = await self.bus.script("claim", controller, limit, CLAIM_MS)
        return [
            ClaimedEvent(
                id=item[0].decode(),
                function_uid=item[1].decode(),
                header=item[2],
                payload=item[3],
                blob=item[4].decode(),
                accepted_ms=int(item[5]),
                attempt=int(item[6]),
            )
            for item in answer
        ]

    async def defer(self, event: str, controller: str, delay_ms: int) -> bool:
        """Put a claimed event back for `delay_ms`."""
        return bool(await self.bus.script("defer", event, controller, delay_ms))

    async def drop(self, event: str, controller: str) -> bool:
        """End a claimed event that can never run."""
        return bool(await self.bus.script("drop", event, controller))

    async def reply(self, controller: str, token: str, header: bytes, payload: bytes) -> None:
        """Answer a controller's question; may arrive twice, after a lost connection."""
        stream = self.bus.keys.reply(controller)
        await self.bus.command("XADD", stream, "*", "i", token, "h", header, "p", payload)
        # A controller that is gone leaves nothing for ever.
        await self.bus.command("PEXPIRE", stream, TOMBSTONE_MS)

    async def ask(self, instance: str, kind: str, header: bytes, launch: bytes = b"") -> None:
        """Put a question (`prepare`, `logs`) into a worker's inbox; may arrive twice, after a lost connection."""
        await self.bus.command("XADD", self.bus.keys.inbox(instance), "*", "t", kind, "h", header, "l", launch)

    async def announce(self, address: str, token: str, *, is_open: bool = True, retry_s: float = 8.0) -> str:
        """Say where a side door is (or, with `is_open` false, no longer is); return the cell's token.

        `token` becomes the cell's when it has none.
        """
        answer = await self.bus.script("announce", address, DOOR_MS if is_open else 0, token, retry_s=retry_s)
        return str(answer.decode())

    async def present(self, controller: bytes, lifetime_ms: int, *, retry_s: float = 8.0) -> list[bytes]:
        """Say that a controller serves, for so long; 0: no longer. Return all that do, as they have described it."""
        return list(await self.bus.script("present", controller, lifetime_ms, retry_s=retry_s))

    async def doors(self, *, retry_s: float = 1.0) -> tuple[list[str], str]:
        """Return the addresses of the side doors, and the token that opens them ("" while there are none)."""
        token, addresses = await asyncio.gather(
            self.bus.command("GET", self.bus.keys.door_token(), retry_s=retry_s),
            self.bus.command("ZRANGE", self.bus.keys.doors(), 0, -1, retry_s=retry_s),
        )
        return [address.decode() for address in addresses], (token or b"").decode()

    async def workers(self) -> dict[str, dict[str, str]]:
        """Return what is known of every instance: state, placeable, heartbeat_ms, engine, info."""
        instances = [item.decode() for item in await self.bus.command("SMEMBERS", self.bus.keys.workers())]
        found = {}
        for instance in sorted(instances):
            flat = await self.bus.command("HGETALL", self.bus.keys.worker(instance))
            found[instance] = {flat[at].decode(): flat[at + 1].decode() for at in range(0, len(flat), 2)}
        return found

    async def event_blobs(self) -> set[str]:
        """Return the digests of the payloads that queued and running events have in the blob store."""
        found: set[str] = set()
        cursor = "0"
        pattern = self.bus.keys.event("*")
        while True:
            answer = await self.bus.command("SCAN", cursor, "MATCH", pattern, "COUNT", 1000)
            cursor = answer[0].decode()
            blobs = await asyncio.gather(*(self.bus.command("HGET", key, "blob") for key in answer[1]))
            found.update(blob.decode() for blob in blobs if blob)
            if cursor == "0":
                return found

    async def published_functions(self) -> set[str]:
        """Return the uids of all functions that admission knows and that have not been retired."""
        found: set[str] = set()
        cursor = "0"
        prefix = self.bus.keys.function("")
        while True:
            answer = await self.bus.command("SCAN", cursor, "MATCH", f"{prefix}*", "COUNT", 1000)
            cursor = answer[0].decode()
            generations = await asyncio.gather(*(self.bus.command("HGET", key, "generation") for key in answer[1]))
            found.update(
                key.decode().removeprefix(prefix)
                for key, generation in zip(answer[1], generations, strict=True)
                if generation is not None and int(generation) != -1
            )
            if cursor == "0":
                return found

    async def heads_published(self) -> None:
        """Every function's head has been published to the new Redis: one reason less for dispatch to pause."""
        await self.bus.command("SREM", self.bus.keys.reconciling(), "heads")

    async def is_reconciling(self) -> bool:
        """Whether dispatch pauses since Redis has changed."""
        return bool(await self.bus.command("EXISTS", self.bus.keys.reconciling()))

    async def is_known(self, invocation_id: str) -> bool:
        """Whether Redis knows an invocation, running or lately finished."""
        return bool(await self.bus.command("EXISTS", self.bus.keys.invocation(invocation_id)))
