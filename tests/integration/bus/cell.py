"""A cell on a real Redis as the tests see it: functions, workers, dispatching, and what Redis holds."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

from contract.bus.operations import Dispatch, InvocationRequest, Operations
from contract.bus.redis_bus import RedisBus
from contract.keys import PERMANENT_KEYS, Keys
from contract.messages import InvokeHeader
from tests.fakes.worker import FakeWorker

ACCOUNT = "000000000000:us-east-1"


@dataclass(slots=True)
class Function:
    uid: str
    memory_mb: int = 512
    generation: int = 1
    reserved: int | None = None

    @property
    def version(self) -> str:
        return f"{self.uid}:$LATEST:{self.generation}"


@dataclass(slots=True)
class Cell:
    bus: RedisBus
    url: str
    limit: int = 1000
    controller: str = "controller"
    extra: list[RedisBus] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    @property
    def keys(self) -> Keys:
        return self.bus.keys

    @property
    def operations(self) -> Operations:
        return Operations(self.bus)

    async def open(self) -> None:
        """Connect, and end the pause in which a new cell waits for workers that it does not know."""
        await self.bus.command("DEL", self.keys.reconciling())

    def another_bus(self) -> RedisBus:
        """A connection as another process would have it."""
        bus = RedisBus(self.url, self.keys)
        self.extra.append(bus)
        return bus

    def close(self) -> None:
        for bus in (self.bus, *self.extra):
            bus.close()

    async def function(
        self, uid: str = "f", *, memory_mb: int = 512, reserved: int | None = None, generation: int = 1
    ) -> Function:
        made = Function(uid, memory_mb=memory_mb, reserved=reserved, generation=generation)
        await self.publish(made)
        return made

    async def publish(self, function: Function) -> int:
        return await self.operations.publish(function.uid, function.generation, function.reserved, ACCOUNT, self.limit)

    async def worker(self, name: str = "w", *, engine: str = "engine", memory_mb: int = 4096) -> FakeWorker:
        worker = FakeWorker(self.bus, name, engine=engine, memory_mb=memory_mb)
        await worker.register()
        return worker

    async def dispatch(
        self,
        function: Function,
        invocation: str = "",
        *,
        event: str = "",
        bus: RedisBus | None = None,
        controller: str = "",
        payload: bytes = b"{}",
    ) -> Dispatch:
        return await Operations(bus or self.bus).dispatch(
            self.request(function, invocation, event=event, controller=controller, payload=payload)
        )

    def request(
        self, function: Function, invocation: str = "", *, event: str = "", controller: str = "", payload: bytes = b"{}"
    ) -> InvocationRequest:
        invocation = invocation or f"i{next(self._numbers)}"
        controller = controller or self.controller
        header = InvokeHeader(
            request_id=invocation,
            version_key=function.version,
            function_uid=function.uid,
            generation=function.generation,
            memory_mb=function.memory_mb,
            controller=controller,
            invoked_function_arn=f"arn:aws:lambda:us-east-1:000000000000:function:{function.uid}",
            event=event,
        )
        return InvocationRequest(
            id=invocation,
            function_uid=function.uid,
            generation=function.generation,
            version_key=function.version,
            memory_mb=function.memory_mb,
            controller=controller,
            header=header.to_json(),
            payload=payload,
            launch=b"launch",
            event=event,
        )

    async def enqueue(self, function: Function, event: str) -> bool:
        return await self.operations.enqueue(event, function.uid, b"header", b"payload", "")

    async def in_flight(self, function: Function) -> int:
        return int(await self.bus.command("ZCARD", self.keys.inflight_function(function.uid)))

    async def in_pool(self) -> int:
        return int(await self.bus.command("ZCARD", self.keys.inflight_unreserved(*ACCOUNT.split(":"))))

    async def tokens(self, version: str) -> list[str]:
        return [item.decode() for item in await self.bus.command("LRANGE", self.keys.idle(version), 0, -1)]

    async def reserved_mb(self, engine: str = "engine") -> int:
        return int(await self.bus.command("HGET", self.keys.engine(engine), "reserved_mb") or 0)

    async def reservations(self, instance: str) -> dict[str, int]:
        flat = await self.bus.command("HGETALL", self.keys.reserved(instance))
        return {name.decode(): int(mb) for name, mb in zip(flat[::2], flat[1::2], strict=True)}

    async def replies(self, controller: str = "") -> list[tuple[str, bytes, bytes]]:
        """All answers so far: (invocation, header, payload)."""
        entries = await self.bus.command("XRANGE", self.keys.reply(controller or self.controller), "-", "+")
        return [(flat[1].decode(), flat[3], flat[5]) for _, flat in entries]

    async def inbox(self, worker: FakeWorker) -> list[dict[str, bytes]]:
        entries = await self.bus.command("XRANGE", self.keys.inbox(worker.instance), "-", "+")
        return [{k.decode(): v for k, v in zip(flat[::2], flat[1::2], strict=True)} for _, flat in entries]

    async def age_idle(self, worker: FakeWorker, function: Function, by_ms: int) -> None:
        """Make the idle environments of a version look as if last used so long before."""
        member = f"{function.memory_mb} {function.version}"
        await self.bus.command("ZINCRBY", self.keys.lru(worker.instance), -by_ms, member)

    async def silence(self, worker: FakeWorker, for_ms: int = 60_000) -> None:
        """Make a worker look as if it had not been heard of for so long."""
        await self.bus.command("HINCRBY", self.keys.worker(worker.instance), "heartbeat_ms", -for_ms)

    async def all_keys(self) -> list[str]:
        cursor: Any = b"0"
        found: set[str] = set()
        while True:
            cursor, names = await self.bus.command("SCAN", cursor, "MATCH", f"{self.keys.prefix}*", "COUNT", 1000)
            found.update(name.decode().removeprefix(self.keys.prefix) for name in names)
            if cursor == b"0":
                return sorted(found)

    async def immortal_keys(self) -> list[str]:
        """Keys that would stay for ever although they may not."""
        expiring = ("reply:", "events:wake")
        families = await self.all_keys()
        names = [name for name in families if name.startswith(expiring) or not name.startswith(PERMANENT_KEYS)]
        return [name for name in names if await self.bus.command("PTTL", self.keys.prefix + name) == -1]
