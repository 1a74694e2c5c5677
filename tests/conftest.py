"""Fixtures that several suites share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.platform_under_test import Platform


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """One platform for all tests of a session that do not break it."""
    running = Platform(Path(tmp_path_factory.mktemp("platform")))
    running.start()
    yield running
    running.stop()
