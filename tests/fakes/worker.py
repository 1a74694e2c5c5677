"""A worker that runs nothing: it does to Redis what a worker does, and knows the truth of its own environments."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import Any

from contract.bus.operations import Completion, Operations, WorkerState, WorkerView
from contract.bus.redis_bus import RedisBus
from contract.messages import EVICT, HEADER, ID, LAUNCH, PAYLOAD, START, TYPE, VERSION, InvokeHeader, ReplyHeader

REPLY = ReplyHeader().to_json()


@dataclass(slots=True)
class Held:
    """An invocation on this worker and the environment that runs it."""

    header: InvokeHeader
    start: str
    pool: str
    environment: str
    payload: bytes = b""


@dataclass(slots=True)
class FakeWorker:
    """Reads its inbox when told to, starts and destroys environments at once, completes when told to."""

    bus: RedisBus
    name: str
    engine: str = "engine"
    memory_mb: int = 4096
    instance: str = ""
    epoch: int = 0
    cursor: bytes = b"0-0"
    #: By invocation id.
    held: dict[str, Held] = field(default_factory=dict)
    #: Environment ids by version, and the memory of each that lives.
    idle: dict[str, deque[str]] = field(default_factory=lambda: defaultdict(deque))
    reserved: dict[str, int] = field(default_factory=dict)
    #: What it was told, in order: (type, invocation or version, versions to evict).
    seen: list[tuple[str, str, list[str]]] = field(default_factory=list)

    @property
    def operations(self) -> Operations:
        return Operations(self.bus)

    async def register(self) -> tuple[str, ...]:
        """Begin a life; the predecessors that Redis tells of."""
        life = await self.operations.register(self.name, self.engine, self.memory_mb, b"{}")
        self.instance, self.epoch = life.instance, life.epoch
        return life.predecessors

    async def read(self, limit: int = 1000) -> int:
        """Handle at most `limit` inbox entries that are there now."""
        answer = await self.bus.command(
            "XREAD", "COUNT", limit, "STREAMS", self.bus.keys.inbox(self.instance), self.cursor
        )
        entries = answer[0][1] if answer else []
        for entry_id, flat in entries:
            self.cursor = entry_id
            await self._handle(dict(zip(flat[::2], flat[1::2], strict=True)))
        return len(entries)

    async def _handle(self, message: dict[bytes, bytes]) -> None:
        kind = message[TYPE].decode()
        victims = message.get(EVICT, b"").decode().split()
        self.seen.append((kind, message.get(ID, message.get(VERSION, b"")).decode(), victims))
        if kind == "invoke":
            await self._begin(message, victims)
        else:
            name = message[VERSION].decode()
            stale = [key for key in self.idle if key == name or (kind == "forget" and key.startswith(f"{name}:"))]
            await self.destroy(*[environment for key in stale for environment in self.idle.pop(key)])

    async def _begin(self, message: dict[bytes, bytes], victims: list[str]) -> None:
        invocation, start = message[ID].decode(), message[START].decode()
        header = InvokeHeader.from_json(message[HEADER])
        await self.destroy(*[self.idle[version].popleft() for version in victims])
        if start == "cold":
            assert LAUNCH in message, "a cold start needs its launch specification"
            assert invocation not in self.reserved
            environment = invocation
            self.reserved[environment] = header.memory_mb
        else:
            environment = self.idle[header.version_key].pop()
        self.held[invocation] = Held(
            header=header,
            start=start,
            pool=message[b"o"].decode(),
            environment=environment,
            payload=message[PAYLOAD],
        )

    async def destroy(self, *environments: str) -> None:
        """Environments are gone: their memory comes back."""
        for environment in environments:
            del self.reserved[environment]
        if environments:
            await self.operations.release(self.instance, *environments)

    async def complete(
        self,
        invocation: str,
        *,
        is_reusable: bool = True,
        acknowledge: bool = True,
        retry_ms: int = 0,
        payload: bytes = b"answer",
    ) -> Completion:
        """End one invocation, and do with its environment as Redis says."""
        answer = await self.operations.complete(
            self.instance,
            invocation,
            is_reusable=is_reusable,
            header=REPLY,
            payload=payload,
            acknowledge=acknowledge,
            retry_ms=retry_ms,
            last_inbox=self.cursor,
        )
        held = self.held.pop(invocation, None)
        if held is not None and answer is Completion.IDLE:
            self.idle[held.header.version_key].append(held.environment)
        elif held is not None and answer is Completion.DESTROY:
            await self.destroy(held.environment)
        return answer

    async def retire_idle(self, version: str, memory_mb: int) -> bool:
        """Take back a token and destroy an environment, if Redis lets it."""
        if not await self.operations.retire_idle(self.instance, version, memory_mb):
            return False
        await self.destroy(self.idle[version].popleft())
        return True

    async def handback(self, invocation: str) -> str:
        """Give an invocation to another worker; its environment here goes."""
        held = self.held[invocation]
        answer = await self.operations.handback(
            self.instance, invocation, held.header.to_json(), held.payload, b"launch"
        )
        if answer == "moved":
            del self.held[invocation]
            await self.destroy(held.environment)
        return answer

    def view(self) -> WorkerView:
        """What it knows, for `reconcile`."""
        held: dict[str, dict[str, Any]] = {
            invocation: {
                "uid": item.header.function_uid,
                "pool": item.pool,
                "controller": item.header.controller,
                "version": item.header.version_key,
                "generation": item.header.generation,
                "memory": item.header.memory_mb,
                "event": item.header.event,
                "start": item.start,
            }
            for invocation, item in self.held.items()
        }
        return WorkerView(
            engine_id=self.engine,
            epoch=self.epoch,
            memory_mb=self.memory_mb,
            info=b"{}",
            held=held,
            idle={
                version: {"count": len(names), "memory": self.reserved[names[0]]}
                for version, names in self.idle.items()
                if names
            },
            reserved=dict(self.reserved),
            last_inbox=self.cursor,
        )

    async def reconcile(self) -> WorkerState:
        """Replace Redis's view of itself by its own."""
        return await self.operations.reconcile(self.instance, self.view(), LOST)


LOST = ReplyHeader(platform_error="its answer was lost with Redis").to_json()
