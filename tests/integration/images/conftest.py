from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.images_under_test import names_of_cell, remove, unique_name
from tests.registry_server import Registry, running_registry
from worker.engine import DockerEngine


@pytest.fixture(scope="module")
def engine() -> Iterator[DockerEngine]:
    with DockerEngine.connected() as connected:
        yield connected


@pytest.fixture
def client(engine: DockerEngine) -> Any:
    return engine.client


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with running_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def cell(client: Any) -> Iterator[str]:
    """Yield a cell's name; the images that its worker has left are removed."""
    name = unique_name().rpartition("/")[2]
    yield name
    for image in names_of_cell(client, name):
        remove(client, image)


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    return tmp_path / "state"
