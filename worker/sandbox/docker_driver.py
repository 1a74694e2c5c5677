"""Sandboxes as containers of a Docker Engine, with the fast paths around it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from worker.engine import DockerEngine
from worker.sandbox import dns, network
from worker.sandbox.box import START_ERRORS, Box, Kit
from worker.sandbox.containers import Containers
from worker.sandbox.driver import (
    ProcessSpec,
    Sandbox,
    SandboxGoneError,
    SandboxSpec,
    SandboxStartFailedError,
)
from worker.sandbox.enclosure import Enclosure
from worker.sandbox.engine_calls import ENGINE_ERRORS, EngineCalls
from worker.sandbox.fast_paths import FastPaths
from worker.sandbox.files import SandboxFiles
from worker.sandbox.foreign_box import ForeignBox
from worker.sandbox.gated_box import GatedBox
from worker.sandbox.identity import ENVIRONMENT_LABEL, EPOCH_LABEL, WORKER_LABEL, Owner

logger = logging.getLogger(__name__)

T = TypeVar("T")

_CLOSE_TIMEOUT_S = 15.0
_REMOVALS_IN_FLIGHT = 4


class _UnwantedError(Exception):
    """Nobody waits for a start any more."""


@dataclass(slots=True, eq=False)
class _Entry:
    """A sandbox of this driver's, through its lives."""

    box: Box
    sandbox: Sandbox | None = None
    #: Set when nobody waits for the start any more.
    is_unwanted: bool = False
    removal: asyncio.Task[None] | None = None


class DockerDriver:
    """The `SandboxDriver` of one Docker Engine. One event loop; see the port for what each method promises."""

    def __init__(
        self,
        engine: DockerEngine,
        *,
        owner: Owner,
        state_dir: Path,
        host_state_dir: Path,
        fast_paths: FastPaths,
        networks: network.NetworkPolicy = network.DEFAULT_POLICY,
        resolvers: Sequence[dns.Resolver] | None = None,
    ) -> None:
        """Drive `engine`, which the caller closes after `close`.

        `host_state_dir` is what the engine calls `state_dir`; directories elsewhere can only be mounted when the two
        are the same. `resolvers` are asked for the sandboxes' DNS queries; None means the worker's own, read anew for
        each start.
        """
        self.owner = owner
        self.fast_paths = fast_paths
        self._calls = EngineCalls(engine)
        self._files = SandboxFiles(owner, state_dir, host_state_dir, has_loop_disks=fast_paths.has_loop_disks)
        self._containers = Containers(engine, self._calls, owner, fast_paths)
        self._kit = Kit(
            owner=owner,
            calls=self._calls,
            containers=self._containers,
            files=self._files,
            enclosure=Enclosure(owner.network, networks, resolvers),
            has_swappiness=fast_paths.cgroup_version == "v1",
        )
        #: By environment.
        self._entries: dict[str, _Entry] = {}
        self._condemned: list[_Entry] = []
        self._tasks: set[asyncio.Task[Any]] = set()

    # --- the port -----------------------------------------------------------------------------------------------

    async def start(self, spec: SandboxSpec) -> Sandbox:
        """See `SandboxDriver.start`."""
        if spec.environment_id in self._entries:
            raise SandboxStartFailedError(f"environment {spec.environment_id} has a sandbox already")
        entry = _Entry(GatedBox(spec, self._kit) if spec.gate else ForeignBox(spec, self._kit))
        self._entries[spec.environment_id] = entry
        return await self._wait_for_start(entry, self._start(entry))

    async def release(self, sandbox: Sandbox, process: ProcessSpec) -> None:
        """See `SandboxDriver.release`."""
        entry = self._current(sandbox)
        if entry is None:
            raise SandboxGoneError(f"sandbox {sandbox.environment_id} is gone")
        await entry.box.release(process)

    async def flush_log(self, sandbox: Sandbox) -> None:
        """See `SandboxDriver.flush_log`."""
        if entry := self._current(sandbox):
            await entry.box.flush_log()

    async def restart(self, sandbox: Sandbox) -> Sandbox:
        """See `SandboxDriver.restart`."""
        entry = self._current(sandbox)
        if entry is None:
            raise SandboxStartFailedError(f"sandbox {sandbox.environment_id} is gone: there is nothing to restart")
        if not sandbox.exited.done():
            raise ValueError(f"sandbox {sandbox.environment_id} still runs; kill it before its restart")
        return await self._wait_for_start(entry, self._start_again(entry))

    def limit_cpu(self, sandbox: Sandbox) -> None:
        """See `SandboxDriver.limit_cpu`."""
        if entry := self._current(sandbox):
            try:
                entry.box.limit_cpu()
            except OSError as error:
                # The container may just have ended.
                logger.info("CPU limit not set: %s", error, extra={"environment_id": sandbox.environment_id})

    async def kill(self, sandbox: Sandbox) -> None:
        """See `SandboxDriver.kill`."""
        entry = self._current(sandbox)
        if entry is not None and not sandbox.exited.done():
            await entry.box.kill()

    async def destroy(self, sandbox: Sandbox) -> None:
        """See `SandboxDriver.destroy`."""
        if entry := self._current(sandbox):
            # Half a removal would leave things behind: it runs to its end, whoever waits.
            await asyncio.shield(self._begin_removal(entry))

    def memory_peak_mb(self, sandbox: Sandbox) -> int:
        """See `SandboxDriver.memory_peak_mb`."""
        entry = self._current(sandbox)
        return entry.box.memory_peak_mb() if entry else 0

    async def sweep(self) -> int:
        """See `SandboxDriver.sweep`."""
        condemned, self._condemned = self._condemned, []
        for entry in condemned:
            entry.removal = None
            await self._begin_removal(entry)
        removed = await self._remove_all(
            self.owner.worker_filter(), lambda labels: labels.get(EPOCH_LABEL) != str(self.owner.epoch)
        )
        await asyncio.to_thread(self._files.remove_predecessors)
        return removed

    async def owners(self) -> set[Owner]:
        """See `SandboxDriver.owners`."""
        found = await asyncio.to_thread(self._files.owners)
        for container in await self._calls.list_containers(self.owner.engine_filter()):
            labels = container["Labels"]
            if labels.get(EPOCH_LABEL, "").isdecimal() and WORKER_LABEL in labels:
                found.add(replace(self.owner, worker_id=labels[WORKER_LABEL], epoch=int(labels[EPOCH_LABEL])))
        return found - {self.owner}

    async def sweep_owner(self, owner: Owner) -> int:
        """See `SandboxDriver.sweep_owner`."""
        if (owner.cell, owner.engine_id) != (self.owner.cell, self.owner.engine_id) or owner == self.owner:
            raise ValueError(f"{owner} is no other life on the engine of {self.owner}")
        removed = await self._remove_all(owner.life_filter(), lambda _: True)
        await asyncio.to_thread(self._files.remove_life, owner)
        return removed

    async def close(self) -> None:
        """See `SandboxDriver.close`."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_CLOSE_TIMEOUT_S)
        await self._containers.close()
        await asyncio.to_thread(self._files.remove_if_unused)

    async def remove_network(self) -> None:
        """Remove the cell's bridge, when the cell goes and no sandbox is left. No error for one in use or unknown."""
        await self._calls.remove_network(self.owner.network)

    # --- starting -----------------------------------------------------------------------------------------------

    async def _wait_for_start(self, entry: _Entry, work: Coroutine[Any, Any, Sandbox]) -> Sandbox:
        """Wait for a start that can't be interrupted half-way; undo it when the caller is cancelled."""
        attempt = self._own(work)
        try:
            return await asyncio.shield(attempt)
        except asyncio.CancelledError:
            entry.is_unwanted = True
            await asyncio.shield(self._own(self._undo(attempt, entry)))
            raise

    async def _undo(self, attempt: asyncio.Task[Sandbox], entry: _Entry) -> None:
        await asyncio.wait([attempt])
        if not attempt.cancelled() and attempt.exception() is None:
            attempt.result().close_listeners()
        await self._begin_removal(entry)

    async def _start(self, entry: _Entry) -> Sandbox:
        spec = entry.box.spec
        step = "subscribing to the engine's events"
        try:
            await self._containers.ready()
            step = "making its files and container"
            await entry.box.prepare()
            step = "starting its container"
            return await self._come_alive(entry)
        except (*START_ERRORS, _UnwantedError) as error:
            await self._begin_removal(entry)
            raise SandboxStartFailedError(
                f"sandbox {spec.environment_id} of image {spec.image}: {step} failed: {error}"
            ) from error

    async def _start_again(self, entry: _Entry) -> Sandbox:
        try:
            return await self._come_alive(entry)
        except (*START_ERRORS, _UnwantedError) as error:
            await self._begin_removal(entry)
            raise SandboxStartFailedError(
                f"sandbox {entry.box.spec.environment_id}: its restart failed: {error}"
            ) from error

    async def _come_alive(self, entry: _Entry) -> Sandbox:
        if entry.is_unwanted:
            raise _UnwantedError("nobody waits for it any more")
        listeners, exited = await entry.box.come_alive()
        entry.sandbox = Sandbox(
            id=entry.box.id,
            environment_id=entry.box.spec.environment_id,
            runtime_api_listener=listeners[0],
            listeners=tuple(listeners[1:]),
            run_dir=entry.box.run.path,
            exited=exited,
        )
        return entry.sandbox

    # --- ending -------------------------------------------------------------------------------------------------

    def _begin_removal(self, entry: _Entry) -> asyncio.Task[None]:
        if entry.removal is None:
            entry.removal = self._own(self._remove(entry))
        return entry.removal

    async def _remove(self, entry: _Entry) -> None:
        environment_id = entry.box.spec.environment_id
        try:
            await entry.box.remove()
        except ENGINE_ERRORS as error:
            logger.warning(
                "a container was not removed and is left to the next sweep: %s",
                error,
                extra={"environment_id": environment_id},
            )
            self._condemned.append(entry)
            return
        self._entries.pop(environment_id, None)

    async def _remove_all(self, labels: list[str], belongs: Callable[[dict[str, str]], bool]) -> int:
        """Remove all containers and volumes with the labels and with further ones that `belongs` accepts.

        Returns how many sandboxes that were.
        """
        left = [found for found in await self._calls.list_containers(labels) if belongs(found["Labels"])]
        slots = asyncio.Semaphore(_REMOVALS_IN_FLIGHT)

        async def remove(container_id: str) -> None:
            async with slots:
                await self._calls.remove(container_id)

        # One that can't be removed must not keep the others alive; it is told afterwards.
        ends = await asyncio.gather(*(remove(found["Id"]) for found in left), return_exceptions=True)
        for end in ends:
            if end is not None:
                raise end
        await self._calls.remove_unused_volumes(labels, belongs)
        return len({found["Labels"].get(ENVIRONMENT_LABEL, found["Id"]) for found in left})

    # --- helpers ------------------------------------------------------------------------------------------------

    def _current(self, sandbox: Sandbox) -> _Entry | None:
        entry = self._entries.get(sandbox.environment_id)
        return entry if entry is not None and entry.sandbox is sandbox else None

    def _own(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
