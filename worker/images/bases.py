"""Finds or makes the image that a runtime is built on."""

import asyncio
import hashlib
import logging
import os
import signal
import time
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import Callable
from pathlib import Path
from typing import assert_never

from runtimes.catalog import HERE, RegistryBase, SuiteBase
from worker.engine import DockerEngine
from worker.images import engine_images
from worker.images.errors import BaseUnavailableError
from worker.images.interruptible import interruptible
from worker.images.lock import file_lock

logger = logging.getLogger(__name__)

Progress = Callable[[str], None]

MAKE_BASE = HERE / "base" / "make-base.sh"
#: A registry that has not said whether it has an image by then is taken as unreachable.
REGISTRY_DEADLINE_S = 8.0
#: An unreachable registry is not asked again for so long: asking can take the whole deadline.
REGISTRY_RETRY_S = 300.0
PULL_DEADLINE_S = 600.0
SUITE_DEADLINE_S = 900.0
#: From a polite to a hard end of a cancelled installation, which has mounts to undo.
_CLEAN_UP_S = 20.0


class Bases:
    """Base images of one engine. Remembers for a while that the registry did not answer."""

    def __init__(self, engine: DockerEngine, locks: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._locks = locks
        self._clock = clock
        self._registry_error: str | None = None
        self._registry_retry_at = 0.0

    async def first_available(self, bases: tuple[RegistryBase | SuiteBase, ...], progress: Progress) -> str:
        """Return a reference to the first base that is here or can be had, making it so.

        Raises:
            BaseUnavailableError: none can; tells the reason for each.
        """
        reasons = []
        for base in bases:
            try:
                match base:
                    case RegistryBase():
                        return await self._from_registry(base.image, progress)
                    case SuiteBase():
                        return await self._from_suite(base.suite, progress)
                    case _:
                        assert_never(base)
            except BaseUnavailableError as error:
                reasons.append(str(error))
        raise BaseUnavailableError("; ".join(reasons))

    async def pulled(self, reference: str, progress: Progress) -> None:
        """Make sure that the engine has this image; raises BaseUnavailableError."""
        await self._from_registry(reference, progress)

    async def _from_registry(self, reference: str, progress: Progress) -> str:
        if await self._engine.call(engine_images.inspect, self._engine.client, reference):
            return reference
        if self._registry_error is not None and self._clock() < self._registry_retry_at:
            raise BaseUnavailableError(f"{reference}: {self._registry_error}")
        try:
            async with asyncio.timeout(REGISTRY_DEADLINE_S):
                found = await self._engine.call(engine_images.registry_has, self._engine.client, reference)
        except (BaseUnavailableError, TimeoutError) as error:
            reason = str(error) or f"the registry of {reference} did not answer within {REGISTRY_DEADLINE_S:g} s"
            self._registry_error, self._registry_retry_at = reason, self._clock() + REGISTRY_RETRY_S
            raise BaseUnavailableError(reason) from error
        self._registry_error = None
        if not found:
            raise BaseUnavailableError(f"the registry has no {reference}, or keeps it private")
        progress(f"pulling {reference}")
        try:
            async with asyncio.timeout(PULL_DEADLINE_S):
                await interruptible(self._engine, engine_images.pull, self._engine.client, reference)
        except TimeoutError as error:
            raise BaseUnavailableError(f"{reference} could not be pulled within {PULL_DEADLINE_S:g} s") from error
        return reference

    async def _from_suite(self, suite: str, progress: Progress) -> str:
        tag = base_tag(suite)
        async with file_lock(self._locks / f"base-{suite}.lock"):
            if await self._engine.call(engine_images.inspect, self._engine.client, tag):
                return tag
            try:
                async with asyncio.timeout(SUITE_DEADLINE_S):
                    await _run([str(MAKE_BASE), suite, tag], progress)
            except TimeoutError as error:
                raise BaseUnavailableError(
                    f"Debian {suite} could not be installed within {SUITE_DEADLINE_S:g} s"
                ) from error
        return tag


def base_tag(suite: str) -> str:
    """Return the tag of a suite's base; another script makes another tag."""
    return f"lambdock/base-{suite}:{hashlib.sha256(MAKE_BASE.read_bytes()).hexdigest()[:16]}"


async def _run(argv: list[str], progress: Progress) -> None:
    """Run a program, its lines as progress; raises BaseUnavailableError with its last lines. Ends it when cancelled."""
    try:
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, start_new_session=True
        )
    except OSError as error:
        raise BaseUnavailableError(f"can't run {argv[0]}: {error}") from error
    lines: list[str] = []
    try:
        assert process.stdout is not None
        async for raw in process.stdout:
            lines.append(raw.decode(errors="replace").rstrip())
            progress(lines[-1])
        code = await process.wait()
    finally:
        if process.returncode is None:
            # Shielded: a cancelled installation must not be left running, with its mounts.
            await asyncio.shield(_end(process))
    if code:
        raise BaseUnavailableError(" ".join(lines[-8:]) or f"{argv[0]} ended with status {code}")


async def _end(process: Process) -> None:
    try:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            async with asyncio.timeout(_CLEAN_UP_S):
                await process.wait()
        except TimeoutError:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    except ProcessLookupError:
        return
