"""Which environments this worker has: Redis knows how many are idle, this knows which.

Redis hands out *tokens*; the worker picks the environment. Messages and replies travel on different connections, so a
token may be spent here before its environment has come back here: then it is owed, and the next environment of that
version that settles pays. Invariant: environments alive or starting = idle + in use + being destroyed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol

from contract.bus.connection import RedisReplyError, RedisUnavailableError
from contract.bus.operations import Operations
from contract.launch import LaunchSpec
from runtimes.catalog import RuntimeEntry
from worker.code.layers import keys_in_use
from worker.environments.environment import Environment, EnvironmentParts
from worker.environments.provisions import Provisions
from worker.environments.state import State

log = logging.getLogger(__name__)

#: An environment whose token was spent is back here within a round trip to Redis; this only bounds a fault of ours.
_SETTLE_LIMIT_S: Final = 30.0
#: Between attempts to tell Redis that memory is free, beyond the bus's own.
_RELEASE_PAUSE_S: Final = 1.0
#: In place of the generation up to which a function's environments are stale.
_DELETED: Final = -1


class Launcher(Protocol):
    """Makes ready what a launch needs."""

    async def provide(self, launch: LaunchSpec) -> Provisions:
        """Return images and trees, once they are here. Raises exceptions that say what can't be had, and why."""
        ...


@dataclass(slots=True)
class _Version:
    """What the pool has of one version key."""

    launch: LaunchSpec
    #: Most recently used last.
    idle: list[Environment] = field(default_factory=list)
    #: Invocations whose token has been spent, and whose environment has not settled yet.
    waiting: deque[asyncio.Future[Environment]] = field(default_factory=deque)
    #: Environments to destroy as soon as they settle.
    owed: int = 0
    in_use: int = 0


class EnvironmentPool:
    """All environments of a worker. Used in one event loop; `instance` is the worker's present life in Redis."""

    def __init__(
        self,
        parts: EnvironmentParts,
        operations: Operations,
        launcher: Launcher,
        catalog: dict[str, RuntimeEntry],
        *,
        idle_timeout_s: float,
    ) -> None:
        self.instance = ""
        self._parts = parts
        self._operations = operations
        self._launcher = launcher
        self._catalog = catalog
        self._idle_timeout_s = idle_timeout_s
        self._versions: dict[str, _Version] = {}
        self._environments: dict[str, Environment] = {}
        self._reservations: dict[str, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        #: Highest retired generation by function; `_DELETED` for a deleted one.
        self._retired: dict[str, int] = {}
        #: Keys of deleted versions.
        self._retired_versions: set[str] = set()
        #: Counts changes that touch tokens, so that a reconciliation can tell whether its snapshot is still true.
        self.changes = 0

    # --- taking and giving back -----------------------------------------------------------------------------------

    def note(self, reservation: str, memory_mb: int) -> None:
        """Redis has reserved memory for a cold start that is about to be made."""
        self._reservations[reservation] = memory_mb

    async def acquire(self, version_key: str, launch: LaunchSpec | None, reservation: str) -> Environment:
        """Return an environment for one invocation: an idle one, or with `launch` (a cold start) a new one.

        A cold start's memory has been reserved under `reservation`. Raises what a launch raises; then that memory is
        still reserved: see `abandon`.
        """
        self.changes += 1
        version = self._versions.get(version_key)
        if launch is not None:
            self._reservations[reservation] = launch.memory_mb
            version = self._versions.setdefault(version_key, _Version(launch))
        if version is None:
            raise LookupError(f"no environment of {version_key} on this worker, though Redis had a token for one")
        version.in_use += 1
        try:
            return await (self._reuse(version) if launch is None else self._start(version, reservation))
        except BaseException:
            version.in_use -= 1
            raise

    def settle(self, environment: Environment) -> None:
        """An environment whose token is back in Redis is idle here too."""
        self.changes += 1
        version = self._version_of(environment)
        version.in_use -= 1
        environment.idle_since = time.monotonic()
        # Whoever waits was admitted before anything that speaks against this environment.
        if self._serve_waiting(version, environment):
            return
        if version.owed:
            version.owed -= 1
            self._own(self.destroy(environment))
        elif self._is_retired(environment.launch):
            self._own(self.destroy(environment))
        else:
            version.idle.append(environment)

    async def give_up(self, environment: Environment) -> None:
        """Destroy an environment that was in use, and whose token is not coming back."""
        self.changes += 1
        self._version_of(environment).in_use -= 1
        await self.destroy(environment)

    async def abandon(self, reservation: str) -> None:
        """A cold start has failed, and nothing is left of what it started: its memory comes back."""
        await self._release(reservation)

    async def destroy(self, environment: Environment) -> None:
        """Destroy an environment; then its memory comes back."""
        await environment.stop()
        self._environments.pop(environment.id, None)
        await self._release(environment.reservation)

    # --- what the cell asks for ------------------------------------------------------------------------------------

    async def evict(self, version_keys: list[str]) -> None:
        """Destroy an idle environment, the least recently used one, for each key; their tokens are gone already."""
        self.changes += 1
        victims = []
        for key in version_keys:
            version = self._versions.get(key)
            if version is None:
                continue
            if version.idle:
                victims.append(version.idle.pop(0))
            else:
                version.owed += 1
        await asyncio.gather(*(self.destroy(victim) for victim in victims))

    def retire(self, version_key: str) -> None:
        """An older `$LATEST`, or a deleted version, goes: idle environments now, busy ones when they settle."""
        uid, is_latest, generation = version_key.partition(":$LATEST:")
        if is_latest:
            known = self._retired.get(uid, 0)
            self._retired[uid] = known if known == _DELETED else max(int(generation), known)
        else:
            self._retired_versions.add(version_key)
        self._destroy_idle([version_key])

    def forget(self, function_uid: str) -> None:
        """A deleted function goes, with all its versions."""
        self._retired[function_uid] = _DELETED
        self._destroy_idle(
            [key for key, version in self._versions.items() if version.launch.function_uid == function_uid]
        )

    async def reap(self) -> None:
        """Destroy environments that have been idle for longer than the idle time-out."""
        limit = time.monotonic() - self._idle_timeout_s
        for key, version in list(self._versions.items()):
            while version.idle and version.idle[0].idle_since < limit:
                self.changes += 1
                if not await self._operations.retire_idle(self.instance, key, version.launch.memory_mb):
                    break
                if version.idle:
                    self._own(self.destroy(version.idle.pop(0)))
                else:
                    version.owed += 1
            if not (version.idle or version.in_use or version.waiting or version.owed):
                del self._versions[key]

    async def clear(self) -> bool:
        """Destroy everything, whatever it is doing. False when not all of it is known to be gone."""
        environments = list(self._environments.values())
        self._versions.clear()
        ends = await asyncio.gather(*(environment.stop() for environment in environments), return_exceptions=True)
        failures = [end for end in ends if isinstance(end, BaseException)]
        for failure in failures:
            log.error("an environment could not be destroyed", exc_info=failure)
        self._environments.clear()
        self._reservations.clear()
        for task in list(self._tasks):
            task.cancel()
        return not failures

    # --- what it has -------------------------------------------------------------------------------------------------

    def idle_tokens(self) -> dict[str, dict[str, int]]:
        """Count idle environments by version, as `reconcile` wants it."""
        tokens = {}
        for key, version in self._versions.items():
            count = len(version.idle) - len(version.waiting) - version.owed
            if count > 0 and not self._is_retired(version.launch):
                tokens[key] = {"count": count, "memory": version.launch.memory_mb}
        return tokens

    def reservations(self) -> dict[str, int]:
        """Memory by reservation, for everything that lives, starts or is being destroyed."""
        return dict(self._reservations)

    def code_in_use(self) -> set[str]:
        """Keys of the trees, of packages and layers, that environments have mounted."""
        launches = [environment.launch for environment in self._environments.values()]
        return {key for launch in launches for key in keys_in_use(launch.code_sha256, launch.layers)}

    def counts(self) -> dict[str, int]:
        """Environments by state, for `/health`."""
        counts = dict.fromkeys((str(state) for state in State), 0)
        for environment in self._environments.values():
            counts[environment.state] += 1
        return {state: count for state, count in counts.items() if count}

    def __iter__(self) -> Iterator[Environment]:
        return iter(list(self._environments.values()))

    # --- inside ------------------------------------------------------------------------------------------------------

    async def _reuse(self, version: _Version) -> Environment:
        environment = version.idle.pop() if version.idle else await self._wait_for_one(version)
        if await environment.is_alive():
            return environment
        # It died while it was idle, and could not be started again: another one takes over its memory.
        await environment.stop()
        self._environments.pop(environment.id, None)
        try:
            return await self._start(version, environment.reservation)
        except Exception:
            await self._release(environment.reservation)
            raise

    async def _start(self, version: _Version, reservation: str) -> Environment:
        launch = version.launch
        runtime = None if launch.is_image else self._catalog[launch.runtime]
        environment = Environment(self._parts, launch, runtime, reservation)
        self._environments[environment.id] = environment
        try:
            await environment.start(await self._launcher.provide(launch))
        except BaseException:
            # A start that was cut off half-way may have made its sandbox; `clear` finds it here until it is gone.
            await environment.stop()
            self._environments.pop(environment.id, None)
            raise
        return environment

    async def _wait_for_one(self, version: _Version) -> Environment:
        """Wait for an environment whose token is back in Redis, and which is not back here."""
        future: asyncio.Future[Environment] = asyncio.get_running_loop().create_future()
        version.waiting.append(future)
        try:
            async with asyncio.timeout(_SETTLE_LIMIT_S):
                return await future
        except BaseException:
            # Its token stays spent, so the environment that comes for it must go.
            if future.done() and not future.cancelled():
                self._own(self.destroy(future.result()))
            else:
                version.waiting.remove(future)
                version.owed += 1
            raise

    def _serve_waiting(self, version: _Version, environment: Environment) -> bool:
        while version.waiting:
            future = version.waiting.popleft()
            if not future.done():
                future.set_result(environment)
                return True
        return False

    def _destroy_idle(self, version_keys: list[str]) -> None:
        self.changes += 1
        for key in version_keys:
            version = self._versions.get(key)
            if version is None:
                continue
            for environment in version.idle:
                self._own(self.destroy(environment))
            version.idle.clear()

    def _is_retired(self, launch: LaunchSpec) -> bool:
        retired = self._retired.get(launch.function_uid, 0)
        if launch.version_key in self._retired_versions:
            return True
        return retired == _DELETED or (launch.version == "$LATEST" and launch.generation <= retired)

    def _version_of(self, environment: Environment) -> _Version:
        return self._versions.setdefault(environment.launch.version_key, _Version(environment.launch))

    async def _release(self, reservation: str) -> None:
        while True:
            try:
                await self._operations.release(self.instance, reservation)
                break
            except (RedisUnavailableError, RedisReplyError) as error:
                # Memory that never comes back would be lost for as long as this life lasts.
                log.warning("memory waits for Redis", extra={"environment_id": reservation, "error": str(error)})
                await asyncio.sleep(_RELEASE_PAUSE_S)
        self._reservations.pop(reservation, None)
        self.changes += 1

    def _own(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("an environment could not be destroyed", exc_info=task.exception())
