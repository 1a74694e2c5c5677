"""A sandbox of an image of ours: one container, whose first program is the gate."""

from __future__ import annotations

import asyncio
import contextlib
import socket

from worker.sandbox.box import Kit
from worker.sandbox.container_config import CPU_PERIOD_US, Places, container_config, container_name, cpu_quota_us
from worker.sandbox.containers import Container
from worker.sandbox.driver import ExitStatus, ProcessSpec, SandboxGoneError, SandboxSpec
from worker.sandbox.run_dir import ASSIGNMENT, GateError, write_assignment
from worker.sandbox.tmp_disk import TmpDisk

_GATE_TIMEOUT_S = 30.0


class GatedBox:
    """See `Box`."""

    def __init__(self, spec: SandboxSpec, kit: Kit) -> None:
        self.spec = spec
        self.run = kit.files.run_dir(spec.environment_id)
        self._kit = kit
        self._container = Container(container_name(kit.owner, spec.environment_id), spec.environment_id)
        self._disk: TmpDisk | None = None

    @property
    def id(self) -> str:
        """See `Box`."""
        return self._container.id

    async def prepare(self) -> None:
        """See `Box`."""
        places = await asyncio.to_thread(self._make_files)
        config = container_config(self.spec, self._kit.owner, places, has_swappiness=self._kit.has_swappiness)
        await self._kit.containers.create(self._container, config)

    async def come_alive(self) -> tuple[list[socket.socket], asyncio.Future[ExitStatus]]:
        """See `Box`."""
        if self._container.life is not None:
            self.run.renew_assignment()
        found = await self._kit.containers.start(self._container)
        life = self._container.life
        assert life is not None
        listeners = await self._kit.enclosure.close_in(self.spec, life, found)
        try:
            life.gate = await self.run.await_gate(life.process.has_ended, _GATE_TIMEOUT_S)
        except BaseException:
            for listener in listeners:
                listener.close()
            raise
        return listeners, life.exited

    async def release(self, process: ProcessSpec) -> None:
        """See `Box`."""
        gate = self._container.life.take_gate() if self._container.life else -1
        if gate < 0:
            raise SandboxGoneError(f"sandbox {self.spec.environment_id} is gone, or its gate was opened before")
        try:
            await write_assignment(gate, process)
        except GateError as error:
            raise SandboxGoneError(f"sandbox {self.spec.environment_id}: {error}") from error
        (self.run.path / ASSIGNMENT).unlink(missing_ok=True)

    async def kill(self) -> None:
        """See `Box`."""
        await self._kit.containers.kill(self._container)

    async def flush_log(self) -> None:
        """See `Box`: its processes write into the FIFO themselves."""

    def limit_cpu(self) -> None:
        """See `Box`."""
        life = self._container.life
        if life is not None and life.cgroup is not None and not life.exited.done():
            life.cgroup.limit_cpu(cpu_quota_us(self.spec.memory_mb), CPU_PERIOD_US)

    def memory_peak_mb(self) -> int:
        """See `Box`."""
        life = self._container.life
        return life.cgroup.memory_peak_mb() if life is not None and life.cgroup is not None else 0

    async def remove(self) -> None:
        """See `Box`."""
        await self._kit.containers.remove(self._container)
        if self._disk is not None:
            with contextlib.suppress(OSError):
                await asyncio.to_thread(self._disk.remove)
        await asyncio.to_thread(self.run.remove)

    def _make_files(self) -> Places:
        self.run.create()
        self._disk = self._kit.files.new_disk(self.spec)
        return self._kit.files.places(self.spec, self._disk)
