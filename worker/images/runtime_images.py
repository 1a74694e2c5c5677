"""Answers which image a runtime's functions run in, making it when there is none."""

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from runtimes.catalog import SHARED, RegistryBase, RuntimeEntry, SuiteBase
from worker.engine import DockerEngine
from worker.images import engine_images
from worker.images.bases import Bases, Progress, base_tag
from worker.images.context import BuildContext, gather
from worker.images.errors import BaseUnavailableError, BuildFailedError, RuntimeUnavailableError
from worker.images.interruptible import interruptible
from worker.images.lock import file_lock

logger = logging.getLogger(__name__)

REPOSITORY = "lambdock/"
#: Marks images whose entry point is the gate, by the version of its protocol.
GATE_LABEL, GATE_VERSION = "lambdock.gate", "2"
RUNTIME_LABEL = "lambdock.runtime"
BASE_LABEL = "lambdock.base"
HOST_AUTHORITIES = Path("/usr/local/share/ca-certificates")

#: How long an answer is trusted: long enough for bursts of starts, short enough for an operator who removes images.
_FOUND_FOR_S = 30.0
#: How long a failure is repeated without trying again, so that every new function doesn't wait for the same one.
_FAILED_FOR_S = 60.0
_BUILD_DEADLINE_S = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    until: float
    image: str | None = None
    failure: str = ""


class RuntimeImages:
    """The images of one engine. `ensure` may be called from many tasks, and by many processes with one `state_dir`."""

    def __init__(
        self,
        engine: DockerEngine,
        catalog: Mapping[str, RuntimeEntry],
        state_dir: Path,
        *,
        mapping: Mapping[str, str] | None = None,
        on_progress: Progress | None = None,
        authorities: Path = HOST_AUTHORITIES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; touches neither engine nor disk.

        `mapping` is the operator's choice, runtime to image: one made here or from one made here (its entry point is
        the gate) is used as it is, any other serves as the base to build on. `authorities` is the directory of the
        host's private certificate authorities, which images trust too.
        """
        self._engine = engine
        self._catalog = catalog
        self._locks = state_dir / "locks"
        self._mapping = dict(mapping or {})
        self._progress = on_progress or _log_progress
        self._authorities = authorities
        self._clock = clock
        self._bases = Bases(engine, self._locks, clock)
        self._answers: dict[tuple[str, str], _Answer] = {}
        self._tasks: dict[str, asyncio.Lock] = {}

    async def ensure(self, runtime: str, architecture: str) -> str:
        """Return the image for a runtime, once the engine has it.

        At once when the image exists; else after pulling and building, seconds to minutes. A failure is repeated
        without another attempt for a minute. Cancelling stops a build that this call started.

        Raises:
            RuntimeUnavailableError: there is no such image, and why; nothing of an attempt is left but cached layers.
        """
        async with self._tasks.setdefault(runtime, asyncio.Lock()):
            key = runtime, architecture
            answer = self._answers.get(key)
            if answer is None or self._clock() >= answer.until:
                answer = await self._answer(runtime, architecture)
                self._answers[key] = answer
        if answer.image is None:
            raise RuntimeUnavailableError(answer.failure)
        return answer.image

    def tag(self, runtime: str) -> str | None:
        """Return the tag under which the present sources of a runtime are built; None when it can't be built here."""
        plan = self._plan(runtime)
        return plan[0] if plan else None

    async def is_present(self, runtime: str) -> bool:
        """Tell whether the image that `ensure` would build is there already."""
        tag = self.tag(runtime)
        return tag is not None and await self._engine.call(engine_images.inspect, self._engine.client, tag) is not None

    async def prune(self) -> list[str]:
        """Remove images made here from other sources than the present ones, and what builds left behind.

        Returns the removed tags. Images that containers use stay, for a later call.
        """
        client = self._engine.client
        current = {self.tag(name) for name in self._catalog}
        repositories = {REPOSITORY + name for name in self._catalog}
        for entry in self._catalog.values():
            bases = {base_tag(base.suite) for base in entry.bases if isinstance(base, SuiteBase)}
            current |= bases
            repositories |= {base.rpartition(":")[0] for base in bases}
        removed = []
        # The label that both bases and what is built on them carry.
        for image in await self._engine.call(client.api.images, filters={"label": BASE_LABEL}):
            for tag in image.get("RepoTags") or ():
                stale = tag.rpartition(":")[0] in repositories and tag not in current
                if stale and await self._engine.call(engine_images.remove, client, tag):
                    removed.append(tag)
        left_over = {"dangling": True, "label": "lambdock.stage=packages"}
        await self._engine.call(client.api.prune_images, filters=left_over)
        return removed

    async def _answer(self, runtime: str, architecture: str) -> _Answer:
        try:
            image = await self._find_or_make(runtime, architecture)
        except RuntimeUnavailableError as error:
            return _Answer(until=self._clock() + _FAILED_FOR_S, failure=error.reason)
        return _Answer(until=self._clock() + _FOUND_FOR_S, image=image)

    async def _find_or_make(self, runtime: str, architecture: str) -> str:
        client = self._engine.client
        if runtime not in self._catalog:
            raise RuntimeUnavailableError(f"Runtime {runtime!r} is not one of Lambda's.")
        machine = await self._engine.call(engine_images.engine_architecture, client)
        if machine != architecture:
            raise RuntimeUnavailableError(
                f"This engine runs {machine} code, and the function is for {architecture}. Update the function's "
                f"Architectures to [{machine}], or add a worker on a machine of {architecture}."
            )
        if runtime in self._mapping and (ready := await self._mapped(runtime, architecture)):
            return ready
        plan = self._plan(runtime)
        if plan is None:
            raise RuntimeUnavailableError(f"Runtime {runtime} has no image here. {_supply(runtime, is_built=False)}")
        tag, context, bases = plan
        if await self._engine.call(engine_images.inspect, client, tag):
            return tag
        async with file_lock(self._locks / f"runtime-{runtime}.lock"):
            # Another process may have built it while this one waited.
            if not await self._engine.call(engine_images.inspect, client, tag):
                await self._build(runtime, tag, context, bases)
        return tag

    async def _mapped(self, runtime: str, architecture: str) -> str | None:
        """Return the operator's image when it can be used as it is, None when it is a base to build on."""
        reference = self._mapping[runtime]
        origin = f"LAMBDOCK_RUNTIME_IMAGES names {reference} for {runtime}"
        try:
            await self._bases.pulled(reference, self._progress)
        except BaseUnavailableError as error:
            raise RuntimeUnavailableError(f"{origin}, which the engine hasn't got: {error}") from error
        image = await self._engine.call(engine_images.inspect, self._engine.client, reference)
        if image is None:
            raise RuntimeUnavailableError(f"{origin}, and it has just been removed from the engine.")
        if (found := engine_images.architecture(image)) != architecture:
            raise RuntimeUnavailableError(f"{origin}, which is for {found}, and the function is for {architecture}.")
        labels = engine_images.labels(image)
        if labels.get(GATE_LABEL) != GATE_VERSION:
            if self._plan(runtime) is None:
                raise RuntimeUnavailableError(
                    f"{origin}, whose entry point is not the gate (label {GATE_LABEL}={GATE_VERSION} is missing), and "
                    f"there is no recipe here to build {runtime} on it."
                )
            return None
        if (made_for := labels.get(RUNTIME_LABEL)) != runtime:
            raise RuntimeUnavailableError(f"{origin}, whose label {RUNTIME_LABEL} says {made_for}.")
        return reference

    def _plan(self, runtime: str) -> tuple[str, BuildContext, tuple[RegistryBase | SuiteBase, ...]] | None:
        entry = self._catalog.get(runtime)
        folder = entry.folder if entry else None
        if entry is None or folder is None:
            return None
        bases = (RegistryBase(self._mapping[runtime]),) if runtime in self._mapping else entry.bases
        arguments = {"runtime": runtime, "gate": GATE_VERSION, "bases": repr(bases)}
        context = gather((folder, SHARED), self._authorities, arguments)
        return f"{REPOSITORY}{runtime}:{context.digest()}", context, bases

    async def _build(
        self, runtime: str, tag: str, context: BuildContext, bases: tuple[RegistryBase | SuiteBase, ...]
    ) -> None:
        try:
            base = await self._bases.first_available(bases, self._progress)
        except BaseUnavailableError as error:
            raise RuntimeUnavailableError(
                f"Runtime {runtime} has no image here, and none can be built: {error}. "
                f"{_supply(runtime, is_built=True)}"
            ) from error
        arguments = {"BASE": base, "RUNTIME": runtime}
        # One after another where steps are the same: the later build then finds them done.
        steps = f"{self._catalog[runtime].family}-{hashlib.sha256(base.encode()).hexdigest()[:16]}"
        async with file_lock(self._locks / f"steps-{steps}.lock"):
            started = self._clock()
            self._progress(f"building {tag} on {base}")
            await self._run_build(tag, base, context, arguments)
        self._progress(f"built {tag} in {self._clock() - started:.0f} s")

    async def _run_build(self, tag: str, base: str, context: BuildContext, arguments: Mapping[str, str]) -> None:
        build = engine_images.build, self._engine.client, context.tar(), tag, arguments, {BASE_LABEL: base}
        try:
            async with asyncio.timeout(_BUILD_DEADLINE_S):
                await interruptible(self._engine, *build)
        except TimeoutError as error:
            raise RuntimeUnavailableError(f"Building {tag} took longer than {_BUILD_DEADLINE_S:g} s.") from error
        except BuildFailedError as error:
            raise RuntimeUnavailableError(
                f"The image of runtime {arguments['RUNTIME']} could not be built on {base}. "
                f"The end of the output:\n{error}"
            ) from error


def _supply(runtime: str, *, is_built: bool) -> str:
    """Say what an operator can do; `is_built` when there is a recipe, which needs only a base."""
    bases = ""
    if is_built:
        bases = (
            f", or any image with {runtime}"
            if runtime.startswith("python")
            else ", or an official image of that Node.js"
        )
    return (
        f"Supply one: set LAMBDOCK_RUNTIME_IMAGES on the worker to a JSON object such as "
        f'{{"{runtime}": "registry.example/{runtime}:1"}}, naming an image with the label '
        f"{GATE_LABEL}={GATE_VERSION}{bases}."
    )


def _log_progress(line: str) -> None:
    logger.info("runtime image", extra={"progress": line})
