"""A real engine, a real runtime image, and a cell of the tests' own, of which nothing stays."""

from __future__ import annotations

import asyncio
import platform
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from runtimes.catalog import load_catalog
from tests.integration.sandbox.bench import Bench
from worker.engine import DockerEngine
from worker.images.runtime_images import RuntimeImages


@pytest.fixture(scope="session")
def engine() -> Iterator[DockerEngine]:
    with DockerEngine.connected() as connected:
        yield connected


@pytest.fixture(scope="session")
def image(engine: DockerEngine, tmp_path_factory: pytest.TempPathFactory) -> str:
    images = RuntimeImages(engine, load_catalog(), tmp_path_factory.mktemp("images"))
    machine = {"x86_64": "x86_64", "aarch64": "arm64"}[platform.machine()]
    return asyncio.run(images.ensure("python3.11", machine))


@pytest.fixture(scope="session")
def cell(engine: DockerEngine) -> Iterator[str]:
    name = f"test-{uuid.uuid4().hex[:12]}"
    yield name
    api = engine.client.api
    left = api.containers(all=True, filters={"label": f"lambdock={name}"})
    for container in left:
        api.remove_container(container["Id"], v=True, force=True)
    volumes = api.volumes(filters={"label": f"lambdock={name}"})["Volumes"]
    for network in api.networks(filters={"label": f"lambdock={name}"}):
        api.remove_network(network["Id"])
    assert not left, "tests left containers behind"
    assert not volumes, "tests left volumes behind"


@pytest.fixture
async def bench(engine: DockerEngine, image: str, cell: str, tmp_path: Path) -> AsyncIterator[Bench]:
    code = tmp_path / "code"
    code.mkdir()
    (code / "app.py").write_text("def handler(event, context): return event\n")
    made = Bench(
        engine=engine, image=image, cell=cell, worker_id=f"w{uuid.uuid4().hex[:8]}", state_dir=tmp_path, drivers=[]
    )
    yield made
    for driver in made.drivers:
        await driver.close()
