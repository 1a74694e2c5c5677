from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.memory_driver import MemoryDriver, MemorySandbox
from tests.suites.sandbox_driver import SandboxDriverSuite
from worker.sandbox.driver import ProcessSpec, SandboxSpec, SandboxStartFailedError

BAD_IMAGE = "bad"


class TestMemoryDriver(SandboxDriverSuite):
    def exits_with(self, code: int) -> ProcessSpec:
        return ProcessSpec(argv=("exit", str(code)), env={})

    def runs_for_ever(self) -> ProcessSpec:
        return ProcessSpec(argv=("pause",), env={})

    @pytest.fixture
    def driver(self, tmp_path: Path) -> MemoryDriver:
        async def refuse(spec: SandboxSpec) -> None:
            if spec.image == BAD_IMAGE:
                raise SandboxStartFailedError(f"sandbox {spec.environment_id}: no such image")

        def behave(released: MemorySandbox) -> None:
            assert released.process is not None
            if released.process.argv[0] == "exit":
                made.exit(released.sandbox, int(released.process.argv[1]))

        made = MemoryDriver(run_root=tmp_path, before_start=refuse, on_release=behave)
        return made

    @pytest.fixture
    def new_spec(self, tmp_path: Path) -> Callable[[], SandboxSpec]:
        return lambda: spec(tmp_path)

    @pytest.fixture
    def bad_spec(self, tmp_path: Path) -> SandboxSpec:
        return spec(tmp_path, image=BAD_IMAGE)


def spec(tmp_path: Path, image: str = "any") -> SandboxSpec:
    return SandboxSpec(
        environment_id=uuid.uuid4().hex, image=image, memory_mb=128, ephemeral_storage_mb=512, code_dir=tmp_path
    )
