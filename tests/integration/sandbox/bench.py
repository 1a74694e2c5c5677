"""What the tests of sandboxes on a real engine share."""

from __future__ import annotations

import asyncio
import os
import uuid
from dataclasses import dataclass, replace
from ipaddress import IPv4Network
from pathlib import Path

from worker.engine import DockerEngine
from worker.sandbox.dns import Resolver
from worker.sandbox.docker_driver import DockerDriver
from worker.sandbox.driver import ExitStatus, ProcessSpec, Sandbox, SandboxDriver, SandboxSpec
from worker.sandbox.fast_paths import FastPaths
from worker.sandbox.identity import Owner
from worker.sandbox.network import NetworkPolicy

PYTHON = "/var/lang/bin/python3"
ALL_PATHS = FastPaths(has_cgroups=True, has_loop_disks=True)


def python(code: str) -> ProcessSpec:
    return ProcessSpec(argv=(PYTHON, "-c", code), env={"LANG": "C.UTF-8"})


@dataclass(frozen=True)
class Bench:
    """Makes drivers and specs for one test, with the worker id and state directory of that test."""

    engine: DockerEngine
    image: str
    cell: str
    worker_id: str
    state_dir: Path
    drivers: list[DockerDriver]
    #: Whether images are treated as anybody's.
    is_foreign: bool = False

    def driver(
        self,
        *,
        epoch: int = 1,
        fast_paths: FastPaths = ALL_PATHS,
        allow_networks: tuple[IPv4Network, ...] = (),
        resolvers: tuple[Resolver, ...] | None = None,
        worker_id: str | None = None,
        host_state_dir: Path | None = None,
    ) -> DockerDriver:
        made = DockerDriver(
            self.engine,
            owner=self.owner(epoch, worker_id),
            state_dir=self.state_dir,
            host_state_dir=host_state_dir or self.state_dir,
            fast_paths=fast_paths,
            networks=NetworkPolicy(allowed=allow_networks),
            resolvers=resolvers,
        )
        self.drivers.append(made)
        return made

    def owner(self, epoch: int = 1, worker_id: str | None = None) -> Owner:
        return Owner(
            cell=self.cell,
            engine_id=self.engine.client.info()["ID"],
            worker_id=worker_id or self.worker_id,
            epoch=epoch,
        )

    def spec(self, *, memory_mb: int = 128, image: str | None = None) -> SandboxSpec:
        made = SandboxSpec(
            environment_id=uuid.uuid4().hex,
            image=image or self.image,
            memory_mb=memory_mb,
            ephemeral_storage_mb=512,
            code_dir=self.state_dir / "code",
            labels={"lambdock.function": "tested"},
        )
        return replace(made, holder_image=self.image, code_dir=None) if self.is_foreign else made

    def foreign_spec(self, *, memory_mb: int = 128, image: str | None = None) -> SandboxSpec:
        """Return a spec of an image that is treated as anybody's, though it may be ours."""
        return replace(self, is_foreign=True).spec(memory_mb=memory_mb, image=image)

    def user_container(self, sandbox: Sandbox) -> str:
        """Return the id of the container in which a released sandbox's user code runs."""
        label = f"lambdock.environment={sandbox.environment_id}"
        found = self.engine.client.api.containers(all=True, filters={"label": label})
        joined = [each["Id"] for each in found if each["HostConfig"]["NetworkMode"].startswith("container:")]
        return str(joined[0] if joined else sandbox.id)

    def owned(self, worker_id: str | None = None) -> list[str]:
        label = f"lambdock.worker={worker_id or self.worker_id}"
        return [found["Id"] for found in self.engine.client.api.containers(all=True, filters={"label": label})]


@dataclass(frozen=True)
class Running:
    """A sandbox whose process has been released, and what it says."""

    driver: SandboxDriver
    sandbox: Sandbox
    log: int

    async def line(self, timeout_s: float = 10) -> str:
        """Return what is in the log once a line is complete."""
        text = b""
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(self.log, readable.set)
        try:
            async with asyncio.timeout(timeout_s):
                while not text.endswith(b"\n"):
                    await readable.wait()
                    readable.clear()
                    try:
                        text += os.read(self.log, 65536)
                    except BlockingIOError:
                        continue
        finally:
            loop.remove_reader(self.log)
        return text.decode()

    async def ended(self, timeout_s: float = 60) -> tuple[ExitStatus, str]:
        async with asyncio.timeout(timeout_s):
            status = await asyncio.shield(self.sandbox.exited)
            await self.driver.flush_log(self.sandbox)
        try:
            return status, os.read(self.log, 65536).decode()
        except BlockingIOError:
            return status, ""


async def run(driver: SandboxDriver, sandbox: Sandbox, code: str | ProcessSpec) -> Running:
    log = os.open(sandbox.run_dir / "log", os.O_RDWR | os.O_NONBLOCK)
    try:
        await driver.release(sandbox, python(code) if isinstance(code, str) else code)
    except BaseException:
        os.close(log)
        raise
    return Running(driver, sandbox, log)


async def finish(running: Running) -> None:
    os.close(running.log)
    running.sandbox.close_listeners()
    await running.driver.destroy(running.sandbox)


async def say(driver: SandboxDriver, spec: SandboxSpec, code: str | ProcessSpec) -> tuple[ExitStatus, str]:
    """Run `code` in a sandbox of its own and return how it ended and what it printed."""
    running = await run(driver, await driver.start(spec), code)
    try:
        return await running.ended()
    finally:
        await finish(running)
