"""Any sequence of operations keeps the counts equal to the truth."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from contract.bus.operations import RESIDENCY_MS, Completion, Verdict
from contract.bus.redis_bus import RedisBus
from tests.fakes.worker import FakeWorker
from tests.integration.bus.cell import ACCOUNT, Cell, Function
from tests.integration.bus.conftest import new_keys
from tests.redis_fixture import RedisServer

T = TypeVar("T")
ENGINE_MB = 2048
LIMIT = 12
workers = st.integers(0, 3)
functions = st.integers(0, 2)
#: Families that may stay when everything has been retired and buried: counters, and what expires by itself.
LEFT = ("generation", "epoch:", "engine:", "account:", "function:", "invocation:", "reply:", "events:wake")


class CellMachine(RuleBasedStateMachine):
    """Two engines with two workers each, three functions of different sizes."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.cell = Cell(RedisBus(self.url, new_keys()), self.url, limit=LIMIT)
        self.workers: list[FakeWorker] = []
        self.fenced: set[str] = set()
        self.functions: list[Function] = []
        self.in_flight: dict[str, set[str]] = {}
        self.versions: dict[str, str] = {}
        self.count = 0
        self.run(self._begin())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    async def _begin(self) -> None:
        await self.cell.open()
        for number in range(4):
            self.workers.append(
                await self.cell.worker(f"w{number}", engine=f"engine{number // 2}", memory_mb=ENGINE_MB)
            )
        for number, reserved in enumerate((None, None, 3)):
            function = await self.cell.function(f"f{number}", memory_mb=256 * 2**number, reserved=reserved)
            self.functions.append(function)
            self.in_flight[function.uid] = set()

    def _name(self) -> str:
        self.count += 1
        return f"i{self.count}"

    def _ended(self, invocation: str) -> None:
        for names in self.in_flight.values():
            names.discard(invocation)

    @rule(number=functions, again=st.booleans())
    def dispatch(self, number: int, again: bool) -> None:
        function, name = self.functions[number], self._name()
        answer = self.run(self.cell.dispatch(function, name))
        if again:
            assert self.run(self.cell.dispatch(function, name)) == answer or answer.verdict is not Verdict.DISPATCHED
        self._note(function, name, answer.verdict)

    def _note(self, function: Function, name: str, verdict: Verdict) -> None:
        unreserved = [f.uid for f in self.functions if f.reserved is None]
        if verdict is Verdict.DISPATCHED:
            if function.reserved is not None:
                assert len(self.in_flight[function.uid]) < function.reserved
            self.in_flight[function.uid].add(name)
            self.versions[name] = function.version
        elif verdict is Verdict.THROTTLED and function.reserved is not None:
            assert len(self.in_flight[function.uid]) >= function.reserved
        assert verdict in {Verdict.DISPATCHED, Verdict.THROTTLED, Verdict.FULL, Verdict.NO_WORKERS}, unreserved

    @rule(number=functions)
    def run_event(self, number: int) -> None:
        function, event = self.functions[number], self._name()
        assert self.run(self.cell.enqueue(function, event))
        for claim in self.run(self.cell.operations.claim("controller", 3)):
            owner = next(f for f in self.functions if f.uid == claim.function_uid)
            attempt = f"{claim.id}#{claim.attempt}"
            answer = self.run(self.cell.dispatch(owner, attempt, event=claim.id))
            self._note(owner, attempt, answer.verdict)
            if answer.verdict is not Verdict.DISPATCHED:
                assert self.run(self.cell.operations.defer(claim.id, "controller", 0))

    @rule(number=workers)
    def read(self, number: int) -> None:
        if self.workers[number].instance not in self.fenced:
            self.run(self.workers[number].read())

    @rule(number=workers, is_reusable=st.booleans(), acknowledge=st.booleans(), retry_ms=st.sampled_from([0, 60_000]))
    def complete(self, number: int, is_reusable: bool, acknowledge: bool, retry_ms: int) -> None:
        worker = self.workers[number]
        for name in list(worker.held)[:1]:
            answer = self.run(
                worker.complete(name, is_reusable=is_reusable, acknowledge=acknowledge, retry_ms=retry_ms)
            )
            assert (answer is Completion.FENCED) == (worker.instance in self.fenced)
            if answer is not Completion.FENCED:
                self._ended(name)

    @rule(number=workers, other=workers)
    def complete_elsewhere(self, number: int, other: int) -> None:
        for name in list(self.workers[number].held)[:1]:
            if number != other:
                answer = self.run(self.workers[other].complete(name))
                assert answer in {Completion.IGNORED, Completion.FENCED}

    @rule(number=workers)
    def hand_back(self, number: int) -> None:
        worker = self.workers[number]
        for name, held in list(worker.held.items())[-1:]:
            if held.start == "cold":
                self.run(worker.handback(name))

    @rule(number=workers, which=functions)
    def retire_idle(self, number: int, which: int) -> None:
        worker, function = self.workers[number], self.functions[which]
        if worker.instance not in self.fenced:
            self.run(worker.read())
            self.run(worker.retire_idle(function.version, function.memory_mb))

    @rule(number=workers, which=functions)
    def age(self, number: int, which: int) -> None:
        if self.workers[number].idle.get(self.functions[which].version):
            self.run(self.cell.age_idle(self.workers[number], self.functions[which], RESIDENCY_MS * 2))

    @rule(number=workers)
    def reconcile(self, number: int) -> None:
        self.run(self.workers[number].reconcile())

    @rule(number=functions)
    def update(self, number: int) -> None:
        self.functions[number].generation += 1
        self.run(self.cell.publish(self.functions[number]))

    @rule(number=functions, reserved=st.sampled_from([None, 0, 1, 3]))
    def reserve(self, number: int, reserved: int | None) -> None:
        self.functions[number].reserved = reserved
        self.run(self.cell.publish(self.functions[number]))

    @rule(number=workers)
    def fence(self, number: int) -> None:
        self.run(self.cell.operations.fence(self.workers[number].instance, b"", only_if_silent=False))
        self.fenced.add(self.workers[number].instance)

    @precondition(lambda self: self.fenced)
    @rule(number=workers)
    def bury(self, number: int) -> None:
        worker = self.workers[number]
        if worker.instance in self.fenced:
            held = self.run(self.cell.bus.command("SMEMBERS", self.cell.keys.held(worker.instance)))
            assert self.run(self.cell.operations.bury(worker.instance))
            for name in held:
                self._ended(name.decode())
            self.workers[number] = self.run(self.cell.worker(worker.name, engine=worker.engine, memory_mb=ENGINE_MB))

    @invariant()
    def counts_are_the_truth(self) -> None:
        self.run(self._check())

    async def _check(self) -> None:
        cell = self.cell
        for function in self.functions:
            assert await cell.in_flight(function) == len(self.in_flight[function.uid])
        total = await cell.bus.command("HGET", cell.keys.account(*ACCOUNT.split(":")), "reserved_total")
        assert int(total) == sum(function.reserved or 0 for function in self.functions)
        tokens: dict[str, Counter[str]] = {}
        for version in {f"{f.uid}:$LATEST:{g + 1}" for f in self.functions for g in range(f.generation)}:
            tokens[version] = Counter(await cell.tokens(version))
        for engine in ("engine0", "engine1"):
            mine = [worker for worker in self.workers if worker.engine == engine]
            promised = [await cell.reservations(worker.instance) for worker in mine]
            assert await cell.reserved_mb(engine) == sum(sum(each.values()) for each in promised) <= ENGINE_MB
        for worker in self.workers:
            if worker.instance not in self.fenced:
                await self._check_environments(worker, tokens)
            else:
                assert not any(each[worker.instance] for each in tokens.values())
        assert await cell.immortal_keys() == []

    async def _check_environments(self, worker: FakeWorker, tokens: dict[str, Counter[str]]) -> None:
        """Environments that live or start are idle tokens and held invocations, and those that it is told to end."""
        promised = await self.cell.reservations(worker.instance)
        alive = Counter(self.versions[name] for name in promised if name != "-")
        held = await self.cell.bus.command("SMEMBERS", self.cell.keys.held(worker.instance))
        used = Counter(self.versions[name.decode()] for name in held)
        ending: Counter[str] = Counter()
        unread = await self.cell.bus.command("XRANGE", self.cell.keys.inbox(worker.instance), b"(" + worker.cursor, "+")
        for _, flat in unread:
            message = dict(zip(flat[::2], flat[1::2], strict=True))
            ending.update(message.get(b"e", b"").decode().split())
            if message[b"t"] == b"retire":
                version = message[b"v"].decode()
                # Whatever is not in use has no token any more and waits for this message.
                assert tokens[version][worker.instance] == 0
                alive[version] = used[version]
                ending[version] = 0
        for version, each in tokens.items():
            assert alive[version] == each[worker.instance] + used[version] + ending[version], version

    def teardown(self) -> None:
        try:
            self.run(self._retire_everything())
        finally:
            self.cell.close()
            self.runner.close()

    async def _retire_everything(self) -> None:
        cell = self.cell
        for function in self.functions:
            await cell.operations.retire_function(function.uid)
        for worker in self.workers:
            await cell.operations.fence(worker.instance, b"", only_if_silent=False)
            await cell.operations.bury(worker.instance)
        await cell.bus.command("DEL", cell.keys.events_wake())
        for event in await cell.bus.command("ZRANGE", cell.keys.events_claimed(), 0, -1):
            await cell.bus.command("ZADD", cell.keys.events_claimed(), 0, event)
        for claim in await cell.operations.claim("controller", 1000):
            await cell.operations.drop(claim.id, "controller")
        assert [name for name in await cell.all_keys() if not name.startswith(LEFT)] == []
        assert (await cell.reserved_mb("engine0"), await cell.reserved_mb("engine1")) == (0, 0)
        total = await cell.bus.command("HGET", cell.keys.account(*ACCOUNT.split(":")), "reserved_total")
        assert total == b"0"


def test_any_sequence_of_operations_keeps_the_counts_equal_to_the_truth(server: RedisServer) -> None:
    machine = type("Machine", (CellMachine,), {"url": server.url})

    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=40,
            stateful_step_count=40,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
