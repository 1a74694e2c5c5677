"""Puts a worker together from its parts, and runs its lives one after the other."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, Final, TypeVar

from contract.blobs.open import open_blob_store
from contract.bus.connection import RedisReplyError, RedisUnavailableError
from contract.bus.operations import Operations
from contract.bus.redis_bus import RedisBus
from contract.keys import Keys
from contract.messages import LOST
from runtimes.catalog import RuntimeEntry, RuntimeStatus, SuiteBase, load_catalog
from worker.caretaker import Caretaker
from worker.code.cache import CodeCache
from worker.code.layers import LayerTrees
from worker.endpoints.doors import Doors
from worker.endpoints.server import FunctionEndpoints
from worker.endpoints.setting import plan
from worker.engine import DockerEngine
from worker.environments.environment import EnvironmentParts
from worker.environments.pool import EnvironmentPool
from worker.executor import Executor
from worker.host_paths import find_host_state_dir
from worker.images.engine_images import engine_architecture
from worker.images.errors import RuntimeUnavailableError
from worker.images.function_images import FunctionImages, ImagePolicy
from worker.images.runtime_images import RuntimeImages
from worker.logs.store import LogStore
from worker.loop import Life, WorkerLoop
from worker.preparation import Preparation
from worker.sandbox.docker_driver import DockerDriver
from worker.sandbox.driver import SandboxDriver
from worker.sandbox.fast_paths import FastPaths
from worker.sandbox.identity import Owner
from worker.sandbox.network import NetworkPolicy
from worker.sandbox.selftest import engine_id, probe
from worker.settings import WorkerSettings
from worker.transfer import Transfer

log = logging.getLogger(__name__)

T = TypeVar("T")

#: A worker can't begin without Redis; it waits this long before it gives up and is started again.
_REGISTER_RETRY_S: Final = 60.0
_EVICTION_S: Final = 300.0
#: How often a worker looks for what others, who are dead, have left on its engine.
_CARE_S: Final = 10.0


class Worker:
    """One worker process. `run` returns when it has been told to stop, and has left nothing behind."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._stopping = asyncio.Event()
        self._catalog = load_catalog()

    def stop(self) -> None:
        """Begin to drain; `run` returns when that is done. Idempotent."""
        self._stopping.set()

    async def run(self) -> None:
        """Serve until `stop`. Raises what makes serving impossible, with a text for the operator."""
        settings = self._settings
        settings.state_dir.mkdir(parents=True, exist_ok=True)
        with DockerEngine.connected() as engine, closing(RedisBus(settings.redis_url, Keys(settings.cell))) as bus:
            images = RuntimeImages(engine, self._catalog, settings.state_dir, mapping=settings.runtime_images)
            host_state_dir = await find_host_state_dir(engine, settings.state_dir, settings.host_state_dir)
            engine_name = await engine_id(engine)
            operations = Operations(bus)
            # Trying the machine takes seconds; those who wait for a life of ours that is over need not wait for that.
            await fence_predecessors(operations, settings.worker_id)
            fast_paths, probed_runtime = await self._probe(engine, images, engine_name, host_state_dir)
            blobs = open_blob_store(settings.blobs)
            code = CodeCache(blobs, settings.state_dir)
            layers = LayerTrees(code, settings.state_dir)
            function_images = FunctionImages(
                engine, blobs, settings.state_dir, cell=settings.cell, policy=_image_policy(settings)
            )
            logs = LogStore(settings.state_dir / "logs", settings.log_limit_mb * 2**20)
            transfer = Transfer(blobs)
            await code.start()
            await layers.start()
            await logs.start()
            try:
                preparation = Preparation(
                    operations, images, code, layers, function_images, logs, holder_runtime=probed_runtime
                )
                while not self._stopping.is_set():
                    await self._live(
                        engine, engine_name, host_state_dir, fast_paths, operations, preparation, logs, transfer
                    )
            finally:
                await transfer.close()
                await logs.close()
                await layers.close()
                await code.close()

    async def _live(  # noqa: PLR0913 - all that outlives one life
        self,
        engine: DockerEngine,
        engine_name: str,
        host_state_dir: Path,
        fast_paths: FastPaths,
        operations: Operations,
        preparation: Preparation,
        logs: LogStore,
        transfer: Transfer,
    ) -> None:
        """One life: clear away what earlier ones left, register, serve, and leave nothing."""
        settings = self._settings
        info: dict[str, Any] = {"fast_paths": _describe(fast_paths), "engine": engine_name}
        await self._take_over(engine, engine_name, host_state_dir, fast_paths, operations)
        registration = await _with_redis(
            lambda: operations.register(settings.worker_id, engine_name, settings.memory_total_mb, b"{}")
        )
        # Who has begun under this name meanwhile: two can't serve, and the later one does.
        for twin in registration.predecessors:
            await operations.fence(twin, LOST.to_json(), only_if_silent=False)
        life = Life(operations, registration)
        owner = Owner(cell=settings.cell, engine_id=engine_name, worker_id=settings.worker_id, epoch=registration.epoch)
        driver = DockerDriver(
            engine,
            owner=owner,
            state_dir=settings.state_dir,
            host_state_dir=host_state_dir,
            fast_paths=fast_paths,
            networks=NetworkPolicy(allowed=settings.allow_networks),
        )
        doors = Doors(operations)
        pool = EnvironmentPool(
            EnvironmentParts(
                driver=driver,
                log_store=logs,
                starts=asyncio.Semaphore(settings.max_starts),
                endpoints=FunctionEndpoints(plan(settings.function_endpoints), doors),
            ),
            operations,
            preparation,
            self._catalog,
            idle_timeout_s=settings.idle_timeout_s,
        )
        pool.instance = registration.instance
        executor = Executor(
            operations,
            pool,
            transfer,
            authority=life.authority,
            on_fenced=life.ended.set,
            on_start=lambda is_ok: loop.started(is_ok),
        )
        loop = WorkerLoop(
            life,
            engine_id=engine_name,
            memory_mb=settings.memory_total_mb,
            pool=pool,
            executor=executor,
            info=lambda: {**info, "environments": pool.counts(), "invocations": executor.held_count},
            on_prepare=preparation.prepare,
            on_logs=preparation.read_logs,
            on_forget=preparation.forget,
        )
        caretaker = Caretaker(operations, driver, owner)
        log.info("serving", extra={"worker_id": registration.instance, "memory_mb": settings.memory_total_mb})
        try:
            async with (
                self._drain_on_stop(loop),
                _periodically(_EVICTION_S, lambda: preparation.evict(pool.code_in_use())),
                _periodically(_CARE_S, caretaker.look),
            ):
                await loop.run()
        finally:
            # At once, or it would be given work for as long as its last heartbeat is young.
            leaving = asyncio.create_task(_fence_self(operations, registration.instance))
            await executor.abandon()
            is_clear = await pool.clear()
            await doors.close()
            await leaving
            if is_clear:
                await _bury_self(operations, registration.instance)
            if self._stopping.is_set():
                # The last worker of the cell on this engine takes the bridge with it; in use it stays.
                await driver.remove_network()
            await driver.close()

    async def _take_over(
        self,
        engine: DockerEngine,
        engine_name: str,
        host_state_dir: Path,
        fast_paths: FastPaths,
        operations: Operations,
    ) -> None:
        settings = self._settings
        # Epoch 0 is nobody's: all that carries this worker's name is an earlier life's.
        owner = Owner(cell=settings.cell, engine_id=engine_name, worker_id=settings.worker_id, epoch=0)
        driver = DockerDriver(
            engine, owner=owner, state_dir=settings.state_dir, host_state_dir=host_state_dir, fast_paths=fast_paths
        )
        try:
            await _with_redis(lambda: take_over(operations, driver, settings.worker_id))
        finally:
            await driver.close()

    @asynccontextmanager
    async def _drain_on_stop(self, loop: WorkerLoop) -> AsyncIterator[None]:
        async def watch() -> None:
            await self._stopping.wait()
            loop.drain()
            await asyncio.sleep(self._settings.drain_s)
            log.warning("the drain time is over; running invocations are ended")
            loop.end()

        task = asyncio.create_task(watch(), name="drain")
        try:
            yield
        finally:
            task.cancel()

    async def _probe(
        self, engine: DockerEngine, images: RuntimeImages, engine_name: str, host_state_dir: Path
    ) -> tuple[FastPaths, str]:
        """Try the fast paths on a sandbox of some runtime that can be had here; tell which runtime that was."""
        architecture = await engine.call(engine_architecture, engine.client)
        supported = [name for name, entry in self._catalog.items() if entry.status is RuntimeStatus.SUPPORTED]
        present = [name for name in supported if await images.is_present(name)]
        # What is there, then what can be made without a registry: starting must not wait for a download.
        without_registry = [name for name in supported if has_suite(self._catalog[name])]
        candidates = list(dict.fromkeys([*self._settings.runtime_images, *present, *without_registry, *supported]))
        failures = []
        for runtime in candidates:
            try:
                image = await images.ensure(runtime, architecture)
            except RuntimeUnavailableError as error:
                failures.append(f"{runtime}: {error}")
                continue
            owner = Owner(cell=self._settings.cell, engine_id=engine_name, worker_id=self._settings.worker_id, epoch=0)
            paths = await probe(
                engine, image, owner=owner, state_dir=self._settings.state_dir, host_state_dir=host_state_dir
            )
            return paths, runtime
        raise RuntimeUnavailableError("no runtime can be had on this machine. " + " · ".join(failures))


def _image_policy(settings: WorkerSettings) -> ImagePolicy:
    return ImagePolicy(
        prefixes=settings.image_prefix_map,
        limit_bytes=settings.image_limit_mb << 20,
        keep_s=settings.image_keep_days * 86_400,
    )


def has_suite(entry: RuntimeEntry) -> bool:
    """Tell whether a runtime's image can be made from the distribution's packages."""
    return any(isinstance(base, SuiteBase) for base in entry.bases)


async def serve(settings: WorkerSettings) -> None:
    """Run a worker until SIGTERM or SIGINT."""
    worker = Worker(settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.stop)
    await worker.run()


async def fence_predecessors(operations: Operations, worker_id: str) -> None:
    """Answer whoever waits for an earlier life of this worker. With Redis away nothing happens: `take_over` follows."""
    try:
        for instance in await operations.workers():
            if instance.rpartition("@")[0] == worker_id:
                await operations.fence(instance, LOST.to_json(), only_if_silent=False)
    except (RedisUnavailableError, RedisReplyError) as error:
        log.warning("earlier lives are fenced when Redis is there", extra={"error": str(error)})


async def take_over(operations: Operations, driver: SandboxDriver, worker_id: str) -> None:
    """End all earlier lives of a worker: their callers are answered, their sandboxes removed, then they are buried.

    To be done before the next life begins, since a life has to renew its lease. Raises what Redis and the engine raise.
    """
    predecessors = [instance for instance in await operations.workers() if instance.rpartition("@")[0] == worker_id]
    for predecessor in predecessors:
        await operations.fence(predecessor, LOST.to_json(), only_if_silent=False)
    removed = await driver.sweep()
    if removed:
        log.info("removed what an earlier life left", extra={"sandboxes": removed})
    for predecessor in predecessors:
        await operations.bury(predecessor)


async def _with_redis(work: Callable[[], Awaitable[T]]) -> T:
    """Do what can't be done without Redis as soon as it is there. Raises RedisUnavailableError after a minute."""
    deadline = asyncio.get_running_loop().time() + _REGISTER_RETRY_S
    while True:
        try:
            return await work()
        except RedisUnavailableError:
            if asyncio.get_running_loop().time() >= deadline:
                raise
            log.warning("waiting for Redis")


async def _fence_self(operations: Operations, instance: str) -> None:
    """Get no more work, and answer whoever still waits."""
    try:
        await operations.fence(instance, LOST.to_json(), only_if_silent=False)
    except (RedisUnavailableError, RedisReplyError) as error:
        log.warning("could not take leave; the next life will", extra={"error": str(error)})


async def _bury_self(operations: Operations, instance: str) -> None:
    """Slots and memory come back, now that nothing runs here any more."""
    try:
        await operations.bury(instance)
    except (RedisUnavailableError, RedisReplyError) as error:
        log.warning("could not be buried; the next life will see to it", extra={"error": str(error)})


def _describe(paths: FastPaths) -> dict[str, Any]:
    return {
        "cgroups": f"{paths.cgroup_version}, direct" if paths.has_cgroups else "by the engine",
        "tmp": "loop-mounted disk" if paths.has_loop_disks else "tmpfs (counts as memory)",
        "network": "entered namespace",
        "missing": paths.missing,
    }


@asynccontextmanager
async def _periodically(interval_s: float, work: Any) -> AsyncIterator[None]:
    async def run() -> None:
        while True:
            await asyncio.sleep(interval_s)
            try:
                await work()
            except Exception:
                log.exception("a periodic task failed; it is tried again")

    task = asyncio.create_task(run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
