"""Keeps a list of processes running: ordered start, restart with backoff, ordered stop. Knows nothing of Lambdock."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from cli.serve.events import (
    AllReady,
    GaveUp,
    Listener,
    PartDied,
    PartReady,
    PartStopped,
    PartStuck,
    Stopping,
)
from cli.serve.process import ChildProcess, Command

#: Asked, with the process id, until true; one call may take at most `PROBE_TIMEOUT_S` and must not raise for "not yet".
Probe = Callable[[int], Awaitable[bool]]

PROBE_TIMEOUT_S = 3.0
_LAST_LINES = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One process to keep running."""

    name: str
    command: Command
    #: None: ready as soon as the process exists.
    probe: Probe | None = None
    #: Not ready before its process has lived so long: for parts that can only fail after a while.
    settle_s: float = 0.0
    #: Parts of one stage start together, after those of lower stages are ready.
    stage: int = 0
    #: Not ready by then: killed and started again.
    start_budget_s: float = 60.0
    #: Alive so long after SIGTERM: killed.
    drain_budget_s: float = 10.0
    #: Neighbours of one name here stop together: what any of them waits for, another one may still do.
    stops_with: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPolicy:
    """How deaths are answered."""

    first_delay_s: float = 0.1
    max_delay_s: float = 5.0
    #: Ready for so long: earlier deaths are forgotten.
    healthy_after_s: float = 10.0
    #: A part that has never been ready, and has died so often: the whole start is given up.
    give_up_after: int = 4
    probe_interval_s: float = 0.05

    def delay_s(self, deaths: int) -> float:
        """Return how long to wait after the `deaths`-th death in a row, counted from 1: doubling up to the maximum."""
        return float(min(self.max_delay_s, self.first_delay_s * 2 ** min(deaths - 1, 30)))


class Supervisor:
    """Runs parts until `stop`. One `run` per instance; `stop` from the same loop, for example a signal handler.

    Every child is killed by the kernel when this process dies, so nothing outlives it.
    """

    def __init__(self, parts: Sequence[Part], listener: Listener, policy: RestartPolicy | None = None) -> None:
        self._listener = listener
        self._policy = policy or RestartPolicy()
        self._kept = [_Kept(part) for part in parts]
        self._stop_asked = asyncio.Event()
        self._kill_asked = asyncio.Event()
        self._has_failed = False

    async def run(self) -> bool:
        """Start all parts and keep them running until `stop`; return False when the start was given up.

        On return, also by cancellation, no child is left.
        """
        loop = asyncio.get_running_loop()
        started_at = loop.time()
        stop_asked = asyncio.create_task(self._stop_asked.wait())
        try:
            for stage in sorted({kept.part.stage for kept in self._kept}):
                members = [kept for kept in self._kept if kept.part.stage == stage]
                for kept in members:
                    kept.task = asyncio.create_task(self._keep(kept), name=f"keep {kept.part.name}")
                ready = asyncio.gather(*(kept.is_ready_once.wait() for kept in members))
                failed = [kept.task for kept in members if kept.task is not None]
                # A keeper ends only when it is cancelled or broken: neither may leave us waiting.
                awaited: set[asyncio.Future[Any]] = {ready, stop_asked, *failed}
                await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
                if self._stop_asked.is_set() or not ready.done():
                    ready.cancel()
                    break
            else:
                self._listener.event(AllReady(took_s=loop.time() - started_at))
            keepers = {kept.task for kept in self._kept if kept.task is not None}
            await asyncio.wait({stop_asked, *keepers}, return_when=asyncio.FIRST_COMPLETED)
            self._listener.event(Stopping())
            await self._stop_all()
        finally:
            stop_asked.cancel()
            await self._kill_all()
        for kept in self._kept:
            # A keeper that broke is a defect of ours: loud, once everything is down.
            if kept.task is not None and not kept.task.cancelled() and (error := kept.task.exception()):
                raise error
        return not self._has_failed

    def stop(self) -> None:
        """First call: stop in order, each part within its drain budget. A later call: kill what is left at once."""
        if self._stop_asked.is_set():
            self._kill_asked.set()
        self._stop_asked.set()

    async def _keep(self, kept: _Kept) -> None:
        part, loop = kept.part, asyncio.get_running_loop()
        deaths = 0
        while not self._stop_asked.is_set():
            started_at = loop.time()
            kept.last_lines.clear()
            kept.child = child = await ChildProcess.start(part.command, lambda line: self._on_line(kept, line))
            if self._stop_asked.is_set():
                # Born after the parts were told to stop.
                child.terminate()
            exited = asyncio.create_task(child.wait())
            try:
                ready_at = await self._until_ready(kept, exited, started_at)
                status = await asyncio.shield(exited)
            finally:
                exited.cancel()
            if self._stop_asked.is_set():
                return
            if ready_at is not None and loop.time() - ready_at >= self._policy.healthy_after_s:
                deaths = 0
            deaths += 1
            last_lines = tuple(kept.last_lines)
            if not kept.is_ready_once.is_set() and deaths >= self._policy.give_up_after:
                self._has_failed = True
                self._listener.event(GaveUp(part=part.name, deaths=deaths, last_lines=last_lines))
                self.stop()
                return
            delay_s = self._policy.delay_s(deaths)
            self._listener.event(
                PartDied(part=part.name, status=status, deaths=deaths, restart_in_s=delay_s, last_lines=last_lines)
            )
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop_asked.wait(), delay_s)

    async def _until_ready(self, kept: _Kept, exited: asyncio.Task[int], started_at: float) -> float | None:
        """Return when the part became ready; None when its process ended first, if need be by our hand."""
        part, loop = kept.part, asyncio.get_running_loop()
        while loop.time() - started_at < part.settle_s or not await _answers(part.probe, kept.child):
            if self._stop_asked.is_set():
                return None
            if loop.time() - started_at > part.start_budget_s and kept.child is not None:
                self._listener.event(PartStuck(part=part.name, budget_s=part.start_budget_s))
                kept.child.kill()
            done, _ = await asyncio.wait({exited}, timeout=self._policy.probe_interval_s)
            if done:
                return None
        if exited.done():
            # Something else answered the probe, or it died right after.
            return None
        is_restart = kept.is_ready_once.is_set()
        self._listener.event(PartReady(part=part.name, took_s=loop.time() - started_at, is_restart=is_restart))
        kept.is_ready_once.set()
        return loop.time()

    async def _stop_all(self) -> None:
        kill_asked = asyncio.create_task(self._kill_asked.wait())
        try:
            for _, group in groupby(reversed(self._kept), key=lambda kept: kept.part.stops_with or kept.part.name):
                living = [(kept.part, kept.child) for kept in group if kept.child is not None]
                if not self._kill_asked.is_set():
                    await asyncio.gather(*(self._stop_one(part, child, kill_asked) for part, child in living))
        finally:
            kill_asked.cancel()

    async def _stop_one(self, part: Part, child: ChildProcess, kill_asked: asyncio.Task[bool]) -> None:
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        exited = asyncio.create_task(child.wait())
        child.terminate()
        await asyncio.wait({exited, kill_asked}, timeout=part.drain_budget_s, return_when=asyncio.FIRST_COMPLETED)
        is_killed = not exited.done()
        if is_killed:
            child.kill()
        await exited
        self._listener.event(PartStopped(part=part.name, took_s=loop.time() - asked_at, is_killed=is_killed))

    async def _kill_all(self) -> None:
        for kept in self._kept:
            if kept.task is not None:
                kept.task.cancel()
        await asyncio.wait({asyncio.create_task(asyncio.sleep(0)), *(k.task for k in self._kept if k.task)})
        for kept in self._kept:
            if kept.child is not None:
                kept.child.kill()
                await kept.child.wait()

    def _on_line(self, kept: _Kept, line: bytes) -> None:
        kept.last_lines.append(line.decode("utf-8", "backslashreplace"))
        self._listener.line(kept.part.name, line)


class _Kept:
    """What the supervisor knows of one part; `child` is the newest process, ended or not."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.task: asyncio.Task[None] | None = None
        self.child: ChildProcess | None = None
        self.is_ready_once = asyncio.Event()
        self.last_lines: deque[str] = deque(maxlen=_LAST_LINES)


async def _answers(probe: Probe | None, child: ChildProcess | None) -> bool:
    if probe is None or child is None:
        return True
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            return await probe(child.pid)
    except TimeoutError:
        return False
