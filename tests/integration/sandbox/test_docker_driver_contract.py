from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.integration.sandbox.bench import Bench, python
from tests.suites.sandbox_driver import SandboxDriverSuite
from worker.sandbox.docker_driver import DockerDriver
from worker.sandbox.driver import ProcessSpec, SandboxSpec
from worker.sandbox.fast_paths import FastPaths


@pytest.mark.docker
class TestDockerDriver(SandboxDriverSuite):
    def exits_with(self, code: int) -> ProcessSpec:
        return python(f"raise SystemExit({code})")

    def runs_for_ever(self) -> ProcessSpec:
        return python("import signal\nwhile True: signal.pause()")

    @pytest.fixture
    def driver(self, bench: Bench) -> DockerDriver:
        return bench.driver()

    @pytest.fixture
    def new_spec(self, bench: Bench) -> Callable[[], SandboxSpec]:
        return bench.spec

    @pytest.fixture
    def bad_spec(self, bench: Bench) -> SandboxSpec:
        return replace(bench.spec(), image="lambdock-no-such-image:none")


@pytest.mark.docker
class TestDockerDriverWithoutFastPaths(TestDockerDriver):
    @pytest.fixture
    def driver(self, bench: Bench) -> DockerDriver:
        return bench.driver(fast_paths=FastPaths(has_cgroups=False, has_loop_disks=False))

    async def test_cpu_limit_may_be_set_again_and_peak_is_known(
        self, driver: DockerDriver, new_spec: Callable[[], SandboxSpec]
    ) -> None:
        """Peaks are the one thing that the engine can't tell at once."""
        sandbox = await driver.start(new_spec())

        driver.limit_cpu(sandbox)

        assert driver.memory_peak_mb(sandbox) == 0
        sandbox.runtime_api_listener.close()
        await driver.destroy(sandbox)


@pytest.mark.docker
class TestDockerDriverWithForeignImages(TestDockerDriver):
    @pytest.fixture
    def new_spec(self, bench: Bench) -> Callable[[], SandboxSpec]:
        return bench.foreign_spec

    @pytest.fixture
    def bad_spec(self, bench: Bench) -> SandboxSpec:
        return replace(bench.foreign_spec(), holder_image="lambdock-no-such-image:none")


@pytest.mark.docker
class TestDockerDriverWithForeignImagesWithoutFastPaths(TestDockerDriverWithoutFastPaths):
    @pytest.fixture
    def new_spec(self, bench: Bench) -> Callable[[], SandboxSpec]:
        return bench.foreign_spec
