"""A sandbox of an image of anybody's: a container of ours holds its network, and its own is made when it is released.

Such an image has no gate, maybe not even a shell: whatever is started in it is user code. So the network is there, and
closed in, before its container is, which joins it.
"""

from __future__ import annotations

import asyncio
import contextlib
import posixpath
import socket
from dataclasses import replace

import docker.errors

from worker.sandbox.attached_log import AttachedLog
from worker.sandbox.box import START_ERRORS, Kit
from worker.sandbox.container_config import (
    CPU_PERIOD_US,
    Places,
    container_name,
    cpu_quota_us,
    foreign_config,
    foreign_volumes,
    holder_config,
)
from worker.sandbox.containers import Container, EndedAtOnceError
from worker.sandbox.driver import (
    ExitStatus,
    ImageStartFailedError,
    ProcessSpec,
    SandboxGoneError,
    SandboxSpec,
    SandboxStartFailedError,
    WorkingDirectoryError,
)
from worker.sandbox.engine_calls import ENGINE_ERRORS
from worker.sandbox.identity import GROUP_ID
from worker.sandbox.life import KILLED, Life
from worker.sandbox.output_stream import not_executed
from worker.sandbox.run_dir import LOG
from worker.sandbox.tmp_disk import TmpDisk

#: What the engine's init process exits with when it can't become the program.
_NOT_EXECUTED_CODES = (126, 127)
_OUTPUT_END_TIMEOUT_S = 2.0
#: Far above any that has been seen.
_MAX_GROUP_FILE_BYTES = 1024 * 1024
#: The engine's answers to what an image asks for, and what we refuse ourselves. Silence is the engine's own affair.
_IMAGE_FAULTS = (docker.errors.APIError, ValueError)
#: Parts of the engine's words about working directories.
_NO_SUCH_DIRECTORY, _IS_NO_DIRECTORY = "chdir to cwd", "is not a directory"


class ForeignBox:
    """See `Box`."""

    def __init__(self, spec: SandboxSpec, kit: Kit) -> None:
        self.spec = spec
        self.run = kit.files.run_dir(spec.environment_id)
        self._kit = kit
        name = container_name(kit.owner, spec.environment_id)
        self._holder = Container(f"{name}-network", spec.environment_id)
        self._main = Container(name, spec.environment_id)
        self._disk: TmpDisk | None = None
        #: Names; made with the main container, and not removed with it.
        self._volumes: tuple[str, ...] = ()
        self._places: Places | None = None
        #: What the main container was made for, once it is known to be good.
        self._process: ProcessSpec | None = None
        self._exited: asyncio.Future[ExitStatus] = asyncio.get_running_loop().create_future()
        self._log: AttachedLog | None = None
        #: Of this life; None before its release.
        self._release: asyncio.Task[None] | None = None
        self._watch: asyncio.Task[None] | None = None

    @property
    def id(self) -> str:
        """See `Box`."""
        return self._holder.id

    async def prepare(self) -> None:
        """See `Box`."""
        self._places = await asyncio.to_thread(self._make_files)
        config = holder_config(self.spec, self._kit.owner, self._places, has_swappiness=self._kit.has_swappiness)
        await self._kit.containers.create(self._holder, config)

    async def come_alive(self) -> tuple[list[socket.socket], asyncio.Future[ExitStatus]]:
        """See `Box`. The holder lives through all restarts of what it holds the network for."""
        self._end_life()
        self._exited = asyncio.get_running_loop().create_future()
        self._release = None
        if self._holder.is_running and self._holder.life is not None:
            listeners = await self._kit.enclosure.open_again(self.spec, self._holder.life)
        else:
            if self._holder.life is not None:
                self.run.renew_assignment()
            found = await self._kit.containers.start(self._holder)
            assert self._holder.life is not None
            listeners = await self._kit.enclosure.close_in(self.spec, self._holder.life, found)
        self._holder.life.exited.add_done_callback(self._on_holder_end)
        return listeners, self._exited

    async def release(self, process: ProcessSpec) -> None:
        """See `Box`."""
        if self._release is not None or self._exited.done():
            raise SandboxGoneError(f"sandbox {self.spec.environment_id} is gone, or was released before")
        self._release = asyncio.create_task(self._start_main(process))
        # Half a start would leave something that runs and is not known: `kill` and `remove` wait for its end.
        await asyncio.shield(self._release)

    async def kill(self) -> None:
        """See `Box`."""
        if self._release is not None:
            await asyncio.wait([self._release])
        await self._kit.containers.kill(self._main)
        if self._watch is None:
            # Nothing of the image has run in this life, so that nobody else tells of its end.
            self._tell(ExitStatus(code=KILLED))

    async def flush_log(self) -> None:
        """See `Box`."""
        log, life = self._log, self._main.life
        if log is not None and life is not None:
            await log.flush(life.process)

    def limit_cpu(self) -> None:
        """See `Box`."""
        life = self._main.life
        if life is not None and life.cgroup is not None and not life.exited.done():
            life.cgroup.limit_cpu(cpu_quota_us(self.spec.memory_mb), CPU_PERIOD_US)

    def memory_peak_mb(self) -> int:
        """See `Box`: of the image's own container; before there is one, of the holder."""
        life = self._main.life or self._holder.life
        return life.cgroup.memory_peak_mb() if life is not None and life.cgroup is not None else 0

    async def remove(self) -> None:
        """See `Box`."""
        if self._release is not None:
            await asyncio.wait([self._release])
        # What runs user code goes first; its network is nobody else's.
        if self._main.id or self._release is not None:
            await self._kit.containers.remove(self._main)
            for volume in self._volumes:
                await self._kit.calls.remove_volume(volume)
        await self._kit.containers.remove(self._holder)
        self._end_life()
        self._tell(ExitStatus(code=KILLED))
        if self._disk is not None:
            with contextlib.suppress(OSError):
                await asyncio.to_thread(self._disk.remove)
        await asyncio.to_thread(self.run.remove)

    # --- inside -------------------------------------------------------------------------------------------------

    def _make_files(self) -> Places:
        self.run.create()
        self._disk = self._kit.files.new_disk(self.spec)
        return self._kit.files.places(self.spec, self._disk)

    async def _start_main(self, process: ProcessSpec) -> None:
        if not process.argv:
            self._tell(ExitStatus(code=_NOT_EXECUTED_CODES[1], not_executed="Couldn't find valid bootstrap(s): []"))
            return
        step = "creating the image's container"
        try:
            await self._make_main(process)
            step = "attaching to its output"
            self._log = AttachedLog(await self._kit.calls.attach(self._main.id), self.run.path / LOG)
            step = "starting it"
            await self._kit.containers.start(self._main)
        except EndedAtOnceError as error:
            status = ExitStatus(code=int(error.state["ExitCode"]), oom_killed=bool(error.state["OOMKilled"]))
            await self._tell_end(status, self._log)
        except START_ERRORS as error:
            with contextlib.suppress(*ENGINE_ERRORS):
                # It may run, though nobody holds it.
                await self._kit.containers.remove(self._main)
            if _NO_SUCH_DIRECTORY in str(error):
                raise _no_directory(process.cwd) from error
            kind = ImageStartFailedError if isinstance(error, _IMAGE_FAULTS) else SandboxStartFailedError
            raise kind(
                f"sandbox {self.spec.environment_id} of image {self.spec.image}: {step} failed: {error}"
            ) from error
        else:
            assert self._main.life is not None
            self._watch = asyncio.create_task(self._watch_end(self._main.life, self._log))

    async def _make_main(self, process: ProcessSpec) -> None:
        if not process.cwd.startswith("/"):
            raise WorkingDirectoryError(
                f"the working directory '{process.cwd}' is invalid, it needs to be an absolute path"
            )
        if self._main.id and process == self._process:
            return
        if self._main.id:
            await self._kit.containers.remove(self._main)
        assert self._places is not None
        self._volumes = tuple(foreign_volumes(self.spec, self._kit.owner))
        config = foreign_config(
            self.spec,
            process,
            self._kit.owner,
            self._places,
            holder_id=self._holder.id,
            has_swappiness=self._kit.has_swappiness,
        )
        try:
            await self._kit.containers.create(self._main, config)
        except docker.errors.APIError as error:
            if _IS_NO_DIRECTORY in str(error):
                raise _no_directory(process.cwd) from error
            raise
        await self._check_directory(process.cwd)
        await self._check_groups()
        self._process = process

    async def _check_directory(self, path: str) -> None:
        """The engine makes directories that the image hasn't got; Lambda refuses them."""
        path = posixpath.normpath(path)
        there = ("/", "/tmp", self.spec.working_directory, *self.spec.volumes)  # noqa: S108 - of the sandbox
        if path in map(posixpath.normpath, filter(None, there)):
            return
        known = self._kit.known_directories
        if (self.spec.image, path) not in known:
            if path in await self._kit.calls.added_paths(self._main.id):
                raise _no_directory(path)
            known.add((self.spec.image, path))

    async def _check_groups(self) -> None:
        """Refuse an image that would choose its user's groups. Raises ValueError.

        The engine adds the container's group to the supplementary ones by looking its number up in the image, where it
        takes a group of that *name* for it, whichever number that has.
        """
        checked = self._kit.checked_groups
        if self.spec.image in checked:
            return
        groups = await self._kit.calls.read_file(self._main.id, "/etc/group", _MAX_GROUP_FILE_BYTES)
        for line in groups.splitlines():
            name, _, rest = line.partition(b":")
            if name.strip() == b"%d" % GROUP_ID:
                raise ValueError(
                    f"the image's /etc/group has a group that is named {GROUP_ID} ({rest[:40]!r}), which is the number"
                    " of functions' own; take it out"
                )
        checked.add(self.spec.image)

    async def _watch_end(self, life: Life, log: AttachedLog | None) -> None:
        await asyncio.wait([life.exited])
        await self._tell_end(life.exited.result(), log)

    async def _tell_end(self, status: ExitStatus, log: AttachedLog | None) -> None:
        if status.code in _NOT_EXECUTED_CODES and log is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_OUTPUT_END_TIMEOUT_S):
                    await log.ended()
            status = replace(status, not_executed=not_executed(log.head))
        self._tell(status)

    def _on_holder_end(self, ended: asyncio.Future[ExitStatus]) -> None:
        # Afterwards the network lives by those who have joined it.
        if self._release is None and not ended.cancelled():
            self._tell(ended.result())

    def _tell(self, status: ExitStatus) -> None:
        if not self._exited.done():
            self._exited.set_result(status)

    def _end_life(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if self._log is not None:
            self._log.close()
            self._log = None


def _no_directory(path: str) -> WorkingDirectoryError:
    return WorkingDirectoryError(f"the working directory doesn't exist: {path}")
