"""What other lives have on an engine: told, and removed by name, and nothing else with it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.integration.sandbox.bench import Bench


async def test_a_dead_worker_of_another_name_is_found_and_swept_and_nobody_else(bench: Bench) -> None:
    dead = bench.driver(worker_id=f"{bench.worker_id}-dead", epoch=3)
    sibling = bench.driver(worker_id=f"{bench.worker_id}-sibling")
    living = bench.driver()
    gone = await dead.start(bench.spec())
    theirs = await sibling.start(bench.spec())
    ours = await living.start(bench.spec())
    gone.runtime_api_listener.close()
    await dead.close()

    assert {dead.owner, sibling.owner} <= await living.owners()
    assert living.owner not in await living.owners()
    assert await living.sweep_owner(dead.owner) == 1

    assert bench.owned(dead.owner.worker_id) == []
    assert not gone.run_dir.exists()
    assert list(bench.state_dir.glob(f"*/{bench.cell}/{dead.owner.worker_id}")) == []
    assert not theirs.exited.done()
    assert not ours.exited.done()
    assert dead.owner not in await living.owners()
    assert await living.sweep_owner(dead.owner) == 0
    for driver, sandbox in ((sibling, theirs), (living, ours)):
        sandbox.runtime_api_listener.close()
        await driver.destroy(sandbox)


async def test_another_life_of_a_worker_is_swept_without_its_successor(bench: Bench) -> None:
    earlier, later = bench.driver(epoch=1), bench.driver(epoch=2)
    sandboxes = [await driver.start(bench.spec()) for driver in (earlier, later)]
    for sandbox in sandboxes:
        sandbox.runtime_api_listener.close()

    assert await bench.driver(epoch=3).sweep_owner(earlier.owner) == 1

    assert bench.owned() == [sandboxes[1].id]
    await later.destroy(sandboxes[1])


@pytest.mark.parametrize("change", [{"cell": "another"}, {"engine_id": "another"}, {}])
async def test_what_is_not_another_life_here_is_not_swept(bench: Bench, change: dict[str, str]) -> None:
    driver = bench.driver()

    with pytest.raises(ValueError, match="no other life"):
        await driver.sweep_owner(replace(driver.owner, **change))


async def test_a_driver_that_closes_with_nothing_left_leaves_no_folder(bench: Bench) -> None:
    driver = bench.driver()
    sandbox = await driver.start(bench.spec())
    sandbox.runtime_api_listener.close()
    await driver.destroy(sandbox)

    await driver.close()

    assert list(bench.state_dir.glob(f"*/{bench.cell}/{bench.worker_id}")) == []


async def test_a_driver_that_closes_leaves_the_files_of_a_sandbox_that_lives(bench: Bench) -> None:
    driver = bench.driver(epoch=1)
    sandbox = await driver.start(bench.spec())
    sandbox.runtime_api_listener.close()

    await driver.close()

    assert sandbox.run_dir.exists()
    assert await bench.driver(epoch=2).sweep() == 1
    assert not sandbox.run_dir.exists()
