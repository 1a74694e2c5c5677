"""Containers as the driver sees them: made, started, killed and removed through the engine, watched past it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worker.engine import DockerEngine
from worker.sandbox import namespace
from worker.sandbox.cgroups import Cgroup, CgroupNotFoundError, find_cgroups
from worker.sandbox.engine_calls import ENGINE_ERRORS, EngineCalls
from worker.sandbox.exits import EngineExits
from worker.sandbox.fast_paths import CGROUP_ROOT, FastPaths
from worker.sandbox.identity import Owner
from worker.sandbox.life import KILLED, Life

logger = logging.getLogger(__name__)

_SUBSCRIBE_TIMEOUT_S = 15.0
#: Between two tries to reach an engine that is away.
_KILL_RETRY_S = 0.5


class EndedAtOnceError(Exception):
    """A container's first process had ended before it could be taken hold of. `state` is the engine's word on it."""

    def __init__(self, state: dict[str, Any]) -> None:
        super().__init__(f"its first process ended at once, with code {state['ExitCode']}")
        self.state = state


@dataclass(slots=True, eq=False)
class Container:
    """One container of a sandbox, through its lives."""

    name: str
    environment_id: str
    #: Empty until it is made, and when it is gone.
    id: str = ""
    life: Life | None = None

    @property
    def is_running(self) -> bool:
        """Whether its first process is known to live."""
        return self.life is not None and not self.life.exited.done() and not self.life.process.has_ended()


class Containers:
    """All containers of one driver. One event loop."""

    def __init__(self, engine: DockerEngine, calls: EngineCalls, owner: Owner, fast_paths: FastPaths) -> None:
        self._calls = calls
        self._owner = owner
        self._fast_paths = fast_paths
        self._known: dict[str, Container] = {}
        self._asking: set[asyncio.Task[None]] = set()
        self._events = EngineExits(
            engine, owner.worker_filter(), self._on_engine_exit, self._on_engine_oom, self._on_subscribed
        )

    async def ready(self) -> None:
        """Return once ends are told by the engine too. To be awaited before the first start. Raises TimeoutError."""
        await self._events.ready(_SUBSCRIBE_TIMEOUT_S)

    async def create(self, container: Container, config: dict[str, Any]) -> None:
        """Make the container. Raises ENGINE_ERRORS."""
        container.id = await self._calls.create(config, container.name)
        self._known[container.id] = container

    async def start(self, container: Container) -> dict[str, Any]:
        """Start a container that does not run, with full CPU, and return what the engine tells about it.

        Raises ENGINE_ERRORS, EndedAtOnceError, NamespaceError, CgroupNotFoundError; what may run then goes by `remove`.
        """
        if container.life is not None:
            container.life.close()
            container.life = None
            # The process's end is known to us before the engine has taken note of it.
            await self._calls.wait_stopped(container.id)
        found = await self._calls.start(container.id)
        if not found["State"]["Pid"]:
            raise EndedAtOnceError(found["State"])
        pid = found["State"]["Pid"]
        try:
            process = namespace.Process(pid, belongs=lambda text: container.id in text)
        except namespace.NamespaceError:
            if namespace.is_over(pid):
                # Before we got hold of it, and maybe before the engine has taken note.
                await self._calls.wait_stopped(container.id)
                raise EndedAtOnceError((await self._calls.inspect(container.id))["State"]) from None
            raise
        life = Life(process=process, cgroup=None, exited=asyncio.get_running_loop().create_future())
        container.life = life
        life.watch()
        if self._fast_paths.has_cgroups:
            try:
                memberships = Path(f"/proc/{process.pid}/cgroup").read_text()
                life.cgroup = Cgroup(find_cgroups(CGROUP_ROOT, container.id, memberships))
                life.cgroup.boost_cpu()
            except (OSError, CgroupNotFoundError):
                if not process.has_ended():
                    raise
        return found

    async def kill(self, container: Container) -> None:
        """Make sure that no process of it runs another instruction."""
        life = container.life
        if life is None or life.exited.done():
            return
        life.is_killed = True
        if life.cgroup is not None and await life.cgroup.kill():
            return
        while not life.exited.done():
            try:
                await self._calls.kill(container.id)
                break
            except ENGINE_ERRORS as error:
                # An engine that is away must not let user code go on: nobody is told that it ended before it has.
                logger.warning("kill is tried again: %s", error, extra={"environment_id": container.environment_id})
                await asyncio.sleep(_KILL_RETRY_S)
        # The engine answers when the signal is sent; the first process's end is the end of all.
        await asyncio.wait([life.exited])

    async def remove(self, container: Container) -> None:
        """Kill and remove the container with its anonymous volumes. Idempotent. Raises ENGINE_ERRORS."""
        life = container.life
        if life is not None and not life.exited.done():
            life.is_killed = True
            if life.cgroup is not None:
                await life.cgroup.kill()
        if container.id:
            await self._calls.remove(container.id)
        else:
            # The engine may have made it after we stopped waiting; the labels tell it from anybody else's.
            await self._calls.remove_named(container.name, self._owner.labels(container.environment_id))
        if life is not None:
            if not life.exited.done():
                await asyncio.wait([life.exited], timeout=1.0)
            life.resolve(KILLED)
            life.close()
            container.life = None
        self._known.pop(container.id, None)
        container.id = ""

    async def close(self) -> None:
        """Release descriptors and the subscription; containers are not touched."""
        self._events.close()
        if self._asking:
            await asyncio.wait(self._asking, timeout=_SUBSCRIBE_TIMEOUT_S)
        for container in self._known.values():
            if container.life is not None:
                container.life.close()

    # --- what the engine tells ----------------------------------------------------------------------------------

    def _on_engine_exit(self, container_id: str, code: int) -> None:
        container = self._known.get(container_id)
        # An event of an earlier life may arrive late: only an ended process is explained by it.
        if container and container.life and container.life.process.pidfd >= 0 and container.life.process.has_ended():
            container.life.engine_code = code

    def _on_engine_oom(self, container_id: str) -> None:
        container = self._known.get(container_id)
        if container and container.life:
            container.life.is_oom_killed = True

    def _on_subscribed(self) -> None:
        for container in list(self._known.values()):
            if container.life is not None and not container.life.exited.done():
                self._own(self._ask_about(container, container.life))

    async def _ask_about(self, container: Container, life: Life) -> None:
        with contextlib.suppress(*ENGINE_ERRORS):
            state = (await self._calls.inspect(container.id))["State"]
            if container.life is life and not state["Running"]:
                life.is_oom_killed = life.is_oom_killed or bool(state["OOMKilled"])
                self._on_engine_exit(container.id, int(state["ExitCode"]))

    def _own(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)
