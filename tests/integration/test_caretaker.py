"""The caretaker on a real Redis, with sandboxes that exist in memory only."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from contract.bus.operations import WorkerState
from contract.bus.redis_bus import RedisBus
from tests.fakes.memory_driver import MemoryDriver
from tests.fakes.worker import FakeWorker
from tests.integration.bus.cell import Cell
from tests.integration.bus.conftest import new_keys
from tests.redis_fixture import RedisServer, binaries
from worker.app import fence_predecessors, take_over
from worker.caretaker import UNKNOWN_FOR_S, Caretaker
from worker.sandbox.identity import Owner


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    made = RedisServer(next(iter(binaries().values())))
    made.start()
    yield made
    made.remove()


@dataclass
class Home:
    """A living worker, its driver and its caretaker, in a cell where others may have died."""

    cell: Cell
    worker: FakeWorker
    driver: MemoryDriver
    caretaker: Caretaker
    time_s: float = 0.0

    def owner(self, worker: FakeWorker) -> Owner:
        return Owner(cell="cell", engine_id="engine", worker_id=worker.name, epoch=worker.epoch)

    async def worker_with_sandboxes(self, name: str, count: int = 2, *, engine: str = "engine") -> FakeWorker:
        made = await self.cell.worker(name, engine=engine)
        self.driver.foreign[self.owner(made)] = count
        return made

    async def known(self) -> set[str]:
        return set(await self.cell.operations.workers())

    async def forget(self, worker: FakeWorker) -> None:
        """Redis loses all that it knew of a worker."""
        keys = self.cell.keys
        await self.cell.bus.command("DEL", keys.worker(worker.instance), keys.epoch(worker.name))
        await self.cell.bus.command("SREM", keys.workers(), worker.instance)


@pytest.fixture
async def home(server: RedisServer, tmp_path: Path) -> AsyncIterator[Home]:
    cell = Cell(RedisBus(server.url, new_keys()), server.url)
    await cell.open()
    worker = await cell.worker("here")
    owner = Owner(cell="cell", engine_id="engine", worker_id="here", epoch=worker.epoch)
    driver = MemoryDriver(tmp_path, owner=owner)
    made = Home(cell, worker, driver, Caretaker(cell.operations, driver, owner, now=lambda: made.time_s))
    yield made
    cell.close()


async def test_what_a_fenced_worker_of_another_name_left_is_removed_and_it_is_buried(home: Home) -> None:
    dead = await home.worker_with_sandboxes("gone")
    function = await home.cell.function()
    await home.cell.operations.fence(home.worker.instance, b"{}", only_if_silent=False)
    await home.cell.dispatch(function)
    await home.cell.operations.fence(dead.instance, b"{}", only_if_silent=False)
    assert await home.cell.reserved_mb() == function.memory_mb

    assert await home.caretaker.look() == 2

    assert dead.instance not in await home.known()
    assert await home.cell.reserved_mb() == 0
    assert await home.cell.in_flight(function) == 0
    assert await home.caretaker.look() == 0


async def test_a_living_sibling_is_not_touched(home: Home) -> None:
    sibling = await home.worker_with_sandboxes("sibling")

    home.time_s += 2 * UNKNOWN_FOR_S
    assert await home.caretaker.look() == 0

    assert home.driver.foreign == {home.owner(sibling): 2}
    assert sibling.instance in await home.known()


async def test_a_fenced_worker_of_another_engine_is_left_to_others(home: Home) -> None:
    far = await home.cell.worker("far", engine="another")
    await home.cell.operations.fence(far.instance, b"{}", only_if_silent=False)

    assert await home.caretaker.look() == 0

    assert far.instance in await home.known()


async def test_the_own_life_is_never_cleared_away_even_when_it_is_fenced(home: Home) -> None:
    await home.cell.operations.fence(home.worker.instance, b"{}", only_if_silent=False)

    assert await home.caretaker.look() == 0

    assert home.worker.instance in await home.known()


async def test_an_owner_unknown_to_redis_is_cleared_away_after_a_while_and_can_not_come_back(home: Home) -> None:
    lost = await home.worker_with_sandboxes("lost")
    await home.forget(lost)

    assert await home.caretaker.look() == 0
    home.time_s += UNKNOWN_FOR_S - 1
    assert await home.caretaker.look() == 0
    home.time_s += 1
    assert await home.caretaker.look() == 2

    assert home.driver.foreign == {}
    assert await lost.reconcile() is WorkerState.FENCED


async def test_an_unknown_owner_that_reports_in_time_is_not_touched(home: Home) -> None:
    late = await home.worker_with_sandboxes("late")
    await home.forget(late)
    await home.caretaker.look()

    home.time_s += UNKNOWN_FOR_S
    assert await late.reconcile() is WorkerState.LIVE
    assert await home.caretaker.look() == 0

    assert home.driver.foreign == {home.owner(late): 2}


async def test_an_earlier_life_is_gone_with_all_that_it_had_before_the_next_one_registers(home: Home) -> None:
    function = await home.cell.function()
    await home.cell.dispatch(function)
    home.driver.leftovers.append("sandbox")

    await take_over(home.cell.operations, home.driver, "here")

    assert await home.known() == set()
    assert home.driver.leftovers == []
    assert await home.cell.reserved_mb() == 0
    assert len(await home.cell.replies()) == 1


async def test_a_life_whose_sandboxes_can_not_be_removed_keeps_its_slots(home: Home) -> None:
    function = await home.cell.function()
    await home.cell.dispatch(function)
    home.driver.before_sweep = _refuse

    with pytest.raises(OSError, match="engine away"):
        await take_over(home.cell.operations, home.driver, "here")

    assert await home.known() == {home.worker.instance}
    assert await home.cell.in_flight(function) == 1


def _refuse() -> None:
    raise OSError("engine away")


async def test_a_starting_worker_fences_its_own_earlier_lives_and_nobody_else(home: Home) -> None:
    await home.cell.worker("here-2")

    await fence_predecessors(home.cell.operations, "here")

    states = {instance: found["state"] for instance, found in (await home.cell.operations.workers()).items()}
    assert states == {"here@1": "fenced", "here-2@1": "live"}
