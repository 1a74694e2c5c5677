"""Sandboxes as containers of a Docker Engine, with the fast paths around it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import Any, TypeVar

from worker.engine import DockerEngine
from worker.sandbox import dns, namespace, network
from worker.sandbox.cgroups import Cgroup, CgroupNotFoundError, find_cgroups
from worker.sandbox.container_config import (
    CPU_PERIOD_US,
    Places,
    container_config,
    container_name,
    cpu_quota_us,
)
from worker.sandbox.driver import (
    ProcessSpec,
    Sandbox,
    SandboxGoneError,
    SandboxSpec,
    SandboxStartFailedError,
)
from worker.sandbox.engine_calls import ENGINE_ERRORS, EngineCalls
from worker.sandbox.exits import EngineExits
from worker.sandbox.fast_paths import CGROUP_ROOT, FastPaths
from worker.sandbox.files import SandboxFiles
from worker.sandbox.identity import EPOCH_LABEL, WORKER_LABEL, Owner
from worker.sandbox.life import Life
from worker.sandbox.run_dir import ASSIGNMENT, GateError, RunDir, write_assignment
from worker.sandbox.tmp_disk import TmpDisk, TmpDiskError

logger = logging.getLogger(__name__)

T = TypeVar("T")

RUNTIME_API_ADDRESS = ("127.0.0.1", 9001)
_DNS_ADDRESS = ("127.0.0.1", dns.PORT)
_GATE_TIMEOUT_S = 30.0
_SUBSCRIBE_TIMEOUT_S = 15.0
_REMOVALS_IN_FLIGHT = 4
_KILLED = 137
_START_ERRORS = (
    *ENGINE_ERRORS,
    namespace.NamespaceError,
    network.NetworkSetupError,
    TmpDiskError,
    GateError,
    ValueError,
)


@dataclass(slots=True, eq=False)
class _Container:
    """All that belongs to one environment's container, through its lives."""

    spec: SandboxSpec
    name: str
    run: RunDir
    id: str = ""
    disk: TmpDisk | None = None
    life: Life | None = None
    sandbox: Sandbox | None = None
    #: Set when nobody waits for the start any more.
    is_unwanted: bool = False
    removal: asyncio.Task[None] | None = field(default=None)


#: Between two tries to reach an engine that is away.
_KILL_RETRY_S = 0.5


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
        self._networks = networks
        self._resolvers = resolvers
        self._files = SandboxFiles(owner, state_dir, host_state_dir, has_loop_disks=fast_paths.has_loop_disks)
        self._containers: dict[str, _Container] = {}
        self._environments: set[str] = set()
        self._condemned: list[_Container] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._events = EngineExits(
            engine, owner.worker_filter(), self._on_engine_exit, self._on_engine_oom, self._on_subscribed
        )

    # --- the port -----------------------------------------------------------------------------------------------

    async def start(self, spec: SandboxSpec) -> Sandbox:
        """See `SandboxDriver.start`."""
        if spec.environment_id in self._environments:
            raise SandboxStartFailedError(f"environment {spec.environment_id} has a sandbox already")
        self._environments.add(spec.environment_id)
        container = _Container(
            spec=spec,
            name=container_name(self.owner, spec.environment_id),
            run=self._files.run_dir(spec.environment_id),
        )
        return await self._wait_for_start(container, self._start(container))

    async def release(self, sandbox: Sandbox, process: ProcessSpec) -> None:
        """See `SandboxDriver.release`."""
        container = self._current(sandbox)
        gate = container.life.take_gate() if container and container.life else -1
        if container is None or gate < 0:
            raise SandboxGoneError(f"sandbox {sandbox.environment_id} is gone, or its gate was opened before")
        try:
            await write_assignment(gate, process)
        except GateError as error:
            raise SandboxGoneError(f"sandbox {sandbox.environment_id}: {error}") from error
        (container.run.path / ASSIGNMENT).unlink(missing_ok=True)

    async def restart(self, sandbox: Sandbox) -> Sandbox:
        """See `SandboxDriver.restart`."""
        container = self._current(sandbox)
        if container is None:
            raise SandboxStartFailedError(f"sandbox {sandbox.environment_id} is gone: there is nothing to restart")
        if not sandbox.exited.done():
            raise ValueError(f"sandbox {sandbox.environment_id} still runs; kill it before its restart")
        return await self._wait_for_start(container, self._start_again(container))

    def limit_cpu(self, sandbox: Sandbox) -> None:
        """See `SandboxDriver.limit_cpu`."""
        container = self._current(sandbox)
        if container and container.life and container.life.cgroup and not sandbox.exited.done():
            try:
                container.life.cgroup.limit_cpu(cpu_quota_us(container.spec.memory_mb), CPU_PERIOD_US)
            except OSError as error:
                # The container may just have ended.
                logger.info("CPU limit not set: %s", error, extra={"environment_id": sandbox.environment_id})

    async def kill(self, sandbox: Sandbox) -> None:
        """See `SandboxDriver.kill`."""
        container = self._current(sandbox)
        life = container.life if container else None
        if container is None or life is None or sandbox.exited.done():
            return
        life.is_killed = True
        if life.cgroup is not None and await life.cgroup.kill():
            return
        while not sandbox.exited.done():
            try:
                await self._calls.kill(container.id)
                break
            except ENGINE_ERRORS as error:
                # An engine that is away must not let user code go on: nobody is told that it ended before it has.
                logger.warning("kill is tried again: %s", error, extra={"environment_id": sandbox.environment_id})
                await asyncio.sleep(_KILL_RETRY_S)
        # The engine answers when the signal is sent; the first process's end is the end of all.
        await asyncio.wait([life.exited])

    async def destroy(self, sandbox: Sandbox) -> None:
        """See `SandboxDriver.destroy`."""
        if container := self._current(sandbox):
            # Half a removal would leave things behind: it runs to its end, whoever waits.
            await asyncio.shield(self._begin_removal(container))

    def memory_peak_mb(self, sandbox: Sandbox) -> int:
        """See `SandboxDriver.memory_peak_mb`."""
        container = self._current(sandbox)
        if container is None or container.life is None or container.life.cgroup is None:
            return 0
        return container.life.cgroup.memory_peak_mb()

    async def sweep(self) -> int:
        """See `SandboxDriver.sweep`."""
        condemned, self._condemned = self._condemned, []
        for container in condemned:
            container.removal = None
            await self._begin_removal(container)
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
        self._events.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_SUBSCRIBE_TIMEOUT_S)
        for container in self._containers.values():
            if container.life is not None:
                container.life.close()
        await asyncio.to_thread(self._files.remove_if_unused)

    async def remove_network(self) -> None:
        """Remove the cell's bridge, when the cell goes and no sandbox is left. No error for one in use or unknown."""
        await self._calls.remove_network(self.owner.network)

    # --- starting -----------------------------------------------------------------------------------------------

    async def _wait_for_start(self, container: _Container, work: Coroutine[Any, Any, Sandbox]) -> Sandbox:
        """Wait for a start that can't be interrupted half-way; undo it when the caller is cancelled."""
        attempt = self._own(work)
        try:
            return await asyncio.shield(attempt)
        except asyncio.CancelledError:
            container.is_unwanted = True
            await asyncio.shield(self._own(self._undo(attempt, container)))
            raise

    async def _undo(self, attempt: asyncio.Task[Sandbox], container: _Container) -> None:
        await asyncio.wait([attempt])
        if not attempt.cancelled() and attempt.exception() is None:
            attempt.result().runtime_api_listener.close()
        await self._begin_removal(container)

    async def _start(self, container: _Container) -> Sandbox:
        step = "subscribing to the engine's events"
        try:
            await self._events.ready(_SUBSCRIBE_TIMEOUT_S)
            step = "preparing its files"
            places = await asyncio.to_thread(self._prepare, container)
            step = "creating its container"
            config = container_config(
                container.spec, self.owner, places, has_swappiness=self.fast_paths.cgroup_version == "v1"
            )
            container.id = await self._calls.create(config, container.name)
            self._containers[container.id] = container
            step = "starting its container"
            return await self._come_alive(container)
        except _START_ERRORS as error:
            await self._begin_removal(container)
            raise SandboxStartFailedError(
                f"sandbox {container.spec.environment_id} of image {container.spec.image}: {step} failed: {error}"
            ) from error

    async def _start_again(self, container: _Container) -> Sandbox:
        try:
            if container.life is not None:
                container.life.close()
            # The process's end is known to us before the engine has taken note of it.
            await self._calls.wait_stopped(container.id)
            container.run.renew_assignment()
            return await self._come_alive(container)
        except _START_ERRORS as error:
            await self._begin_removal(container)
            raise SandboxStartFailedError(
                f"sandbox {container.spec.environment_id}: its restart failed: {error}"
            ) from error

    def _prepare(self, container: _Container) -> Places:
        container.run.create()
        container.disk = self._files.new_disk(container.spec)
        return self._files.places(container.spec, container.disk)

    async def _come_alive(self, container: _Container) -> Sandbox:
        if container.is_unwanted:
            raise GateError("nobody waits for it any more")
        found = await self._calls.start(container.id)
        if not found["State"]["Pid"]:
            raise GateError(f"its first process ended at once, with code {found['State']['ExitCode']}")
        life = Life(
            process=namespace.Process(found["State"]["Pid"], belongs=lambda text: container.id in text),
            cgroup=None,
            exited=asyncio.get_running_loop().create_future(),
        )
        container.life = life
        life.watch()
        if self.fast_paths.has_cgroups:
            self._boost(container.id, life)
        listener = await self._close_in(life, _link(found, self.owner.network))
        try:
            life.gate = await container.run.await_gate(life.process.has_ended, _GATE_TIMEOUT_S)
        except BaseException:
            listener.close()
            raise
        container.sandbox = Sandbox(
            id=container.id,
            environment_id=container.spec.environment_id,
            runtime_api_listener=listener,
            run_dir=container.run.path,
            exited=life.exited,
        )
        return container.sandbox

    def _boost(self, container_id: str, life: Life) -> None:
        try:
            memberships = Path(f"/proc/{life.process.pid}/cgroup").read_text()
            life.cgroup = Cgroup(find_cgroups(CGROUP_ROOT, container_id, memberships))
            life.cgroup.boost_cpu()
        except (OSError, CgroupNotFoundError) as error:
            if life.process.has_ended():
                raise GateError("its first process ended before it came to its gate") from error
            raise

    async def _close_in(self, life: Life, link: network.SandboxLink) -> socket.socket:
        """Close the network in and open the sockets inside it; return the Runtime API's."""
        planned = network.plan(link, network.read_host_networks(), self._networks)

        def inside() -> list[socket.socket]:
            network.close_in(planned)
            opened: list[socket.socket] = []
            try:
                opened.append(namespace.open_listener(*RUNTIME_API_ADDRESS))
                opened.append(namespace.open_udp(*_DNS_ADDRESS))
                opened.append(namespace.open_listener(*_DNS_ADDRESS))
            except BaseException:
                for each in opened:
                    each.close()
                raise
            return opened

        listener, udp, tcp = await namespace.run_in(life.process.namespace, inside)
        resolvers = self._resolvers if self._resolvers is not None else dns.system_resolvers()
        life.dns = dns.DnsForwarder(udp, tcp, resolvers)
        life.dns.start()
        return listener

    # --- ending -------------------------------------------------------------------------------------------------

    def _begin_removal(self, container: _Container) -> asyncio.Task[None]:
        if container.removal is None:
            container.removal = self._own(self._remove(container))
        return container.removal

    async def _remove(self, container: _Container) -> None:
        life = container.life
        if life is not None and not life.exited.done():
            life.is_killed = True
            if life.cgroup is not None:
                await life.cgroup.kill()
        try:
            if container.id:
                await self._calls.remove(container.id)
            else:
                # The engine may have made it after we stopped waiting; the labels tell it from anybody else's.
                await self._calls.remove_named(container.name, self.owner.labels(container.spec.environment_id))
        except ENGINE_ERRORS as error:
            logger.warning(
                "a container was not removed and is left to the next sweep: %s",
                error,
                extra={"environment_id": container.spec.environment_id},
            )
            self._condemned.append(container)
            return
        if life is not None:
            if not life.exited.done():
                await asyncio.wait([life.exited], timeout=1.0)
            life.resolve(_KILLED)
            life.close()
        if container.disk is not None:
            with contextlib.suppress(OSError):
                await asyncio.to_thread(container.disk.remove)
        await asyncio.to_thread(container.run.remove)
        self._containers.pop(container.id, None)
        self._environments.discard(container.spec.environment_id)

    # --- what the engine tells ----------------------------------------------------------------------------------

    def _on_engine_exit(self, container_id: str, code: int) -> None:
        container = self._containers.get(container_id)
        # An event of an earlier life may arrive late: only an ended process is explained by it.
        if container and container.life and container.life.process.pidfd >= 0 and container.life.process.has_ended():
            container.life.engine_code = code

    def _on_engine_oom(self, container_id: str) -> None:
        container = self._containers.get(container_id)
        if container and container.life:
            container.life.is_oom_killed = True

    def _on_subscribed(self) -> None:
        for container in list(self._containers.values()):
            if container.life is not None and not container.life.exited.done():
                self._own(self._ask_about(container, container.life))

    async def _remove_all(self, labels: list[str], belongs: Callable[[dict[str, str]], bool]) -> int:
        """Remove all containers and volumes with the labels and with further ones that `belongs` accepts."""
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
        return len(left)

    async def _ask_about(self, container: _Container, life: Life) -> None:
        with contextlib.suppress(*ENGINE_ERRORS):
            state = (await self._calls.inspect(container.id))["State"]
            if container.life is life and not state["Running"]:
                life.is_oom_killed = life.is_oom_killed or bool(state["OOMKilled"])
                self._on_engine_exit(container.id, int(state["ExitCode"]))

    # --- helpers ------------------------------------------------------------------------------------------------

    def _current(self, sandbox: Sandbox) -> _Container | None:
        container = self._containers.get(sandbox.id)
        return container if container is not None and container.sandbox is sandbox else None

    def _own(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _link(found: dict[str, Any], name: str) -> network.SandboxLink:
    place = found["NetworkSettings"]["Networks"][name]
    return network.SandboxLink(
        gateway=IPv4Address(place["Gateway"]),
        subnet=IPv4Interface(f"{place['IPAddress']}/{place['IPPrefixLen']}").network,
    )
