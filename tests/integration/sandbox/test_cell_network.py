"""The network of a cell on one engine, whose workers may all begin at the same moment."""

from __future__ import annotations

import asyncio

from worker.engine import DockerEngine
from worker.sandbox.engine_calls import EngineCalls, bridge_name
from worker.sandbox.identity import CELL_LABEL, ENGINE_LABEL


async def test_workers_that_begin_together_make_one_network(engine: DockerEngine, cell: str) -> None:
    name, labels = f"lambdock-{cell}-together", {CELL_LABEL: cell, ENGINE_LABEL: "engine"}
    workers = [EngineCalls(engine) for _ in range(6)]
    try:
        await asyncio.gather(*(worker._ensure_network(name, labels) for worker in workers))

        (found,) = await engine.call(engine.client.api.networks, names=[name])
        assert found["Options"]["com.docker.network.bridge.name"] == bridge_name("engine", name)
    finally:
        for network in await engine.call(engine.client.api.networks, names=[name]):
            await engine.call(engine.client.api.remove_network, network["Id"])


def test_bridges_of_two_engines_on_one_machine_have_two_names_that_the_kernel_takes() -> None:
    names = {bridge_name(engine, cell) for engine in ("one", "two") for cell in ("lambdock-a", "lambdock-b")}

    assert len(names) == 4
    assert all(len(name) <= 15 for name in names)
