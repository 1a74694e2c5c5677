from __future__ import annotations

import pytest

from deploy import down
from worker.images.function_images import function_repository


@pytest.mark.parametrize("cell", ["default", "test-1", "a-"])
def test_purge_looks_for_what_workers_make(cell: str) -> None:
    assert down.FUNCTION_IMAGES.format(cell=cell) == function_repository(cell)
