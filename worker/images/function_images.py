"""The images that functions bring along: pulled from registries or loaded from the blob store, pinned, and removed
when no function has used them for long.

Each carries a name of ours on the engine, `lambdock/<cell>-functions:…`, which keeps `docker image prune` from it, and
nothing else of ours: the name that pulling leaves is taken away again unless it was there before. So removing an image
is taking away our name; the engine removes what has no other. Renewing the name tells all workers on the engine that
the image is in use, by the engine's `LastTagTime`.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from weakref import WeakValueDictionary

from contract.blobs.store import BlobNotFoundError, BlobStore
from contract.images import ARCHITECTURES, ImageManifest, names_pushed_host
from contract.launch import LaunchSpec
from worker.engine import DockerEngine
from worker.images import engine_images, function_calls
from worker.images.errors import ImageUnavailableError
from worker.images.function_calls import DELETED, DENIED, INVALID
from worker.images.inspected import FunctionImage, described, is_of, named_at
from worker.images.interruptible import interruptible
from worker.images.lock import file_lock
from worker.images.pushed_images import BlobFetchError, archive_of, lost, read_manifest
from worker.images.references import Reference, mirrored, parse_reference

log = logging.getLogger(__name__)

REGISTRY_DEADLINE_S: Final = 30.0
PULL_DEADLINE_S: Final = 1_800.0
#: How long a pinned image's failure is repeated without trying again: every invocation would ask the registry.
_FAILED_FOR_S: Final = 10.0
#: Names are renewed when older than this, on use.
_RENEW_S: Final = 3_600.0
#: Images that one look for unused ones removes at most.
_REMOVED_AT_ONCE: Final = 20
#: What a load has left in the state directory for so long belongs to a process that died.
_STALE_LOAD_S: Final = 7_200.0
#: Manifests of pushed images that are remembered.
_MANIFESTS: Final = 256
_PULLS: Final = 3
#: Engines' words for architectures, by Lambda's.
_WORDS: Final = {"x86_64": "amd64"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePolicy:
    """What an operator decides about functions' images."""

    #: Which names are pulled from a mirror (`references.mirrored`).
    prefixes: Mapping[str, str] = field(default_factory=dict)
    #: The largest image that functions may have, unpacked.
    limit_bytes: int = 10_240 << 20
    #: How long an image stays on the engine without being used.
    keep_s: float = 14 * 86_400.0


class FunctionImages:
    """Functions' images on one engine, which other workers and cells may share. `ensure` may be called by many."""

    def __init__(
        self,
        engine: DockerEngine,
        blobs: BlobStore,
        state_dir: Path,
        *,
        cell: str,
        policy: ImagePolicy | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Prepare; touches neither engine nor disk. Workers that share `state_dir` fetch an image once."""
        self._engine = engine
        self._blobs = blobs
        self._locks = state_dir / "locks"
        self._loads = state_dir / "image-loads"
        self._repository = function_repository(cell)
        self._policy = policy or ImagePolicy()
        self._clock = clock
        self._machine = ""
        self._manifests: dict[str, ImageManifest] = {}
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._failures: dict[str, tuple[float, ImageUnavailableError]] = {}

    async def ensure(self, launch: LaunchSpec) -> FunctionImage:
        """Return the launch's image once the engine has it, pulling or loading it if need be.

        An image that is not pinned yet is looked up in its registry, always: a tag may have moved. A pinned one is
        only asked for when the engine hasn't got it; such a failure is repeated for some seconds. Raises
        ImageUnavailableError; nothing of a refused image is left on the engine.
        """
        await self._check_machine(launch)
        if launch.image_manifest or names_pushed_host(launch.image_uri):
            return await self._remembering(launch, self._pushed(launch))
        try:
            reference = parse_reference(launch.image_uri)
        except ValueError as error:
            raise ImageUnavailableError(
                INVALID, f"Source image {launch.image_uri[:300]} is not valid. Provide a valid source image. ({error})"
            ) from error
        if reference.digest:
            return await self._remembering(launch, self._pulled(launch, reference))
        source = mirrored(reference, self._policy.prefixes)
        offer = await self._look_up(source, reference)
        if offer.platforms and not any(_fits(platform, launch.architecture) for platform in offer.platforms):
            found = ", ".join(sorted(f"{system}/{machine}" for system, machine in offer.platforms))
            raise _wrong_architecture(str(reference), found, launch.architecture)
        return await self._pulled(launch, reference.pinned(offer.digest))

    async def collect(self) -> list[str]:
        """Take our names away from images that nobody has used for long; return these names.

        Only names of this cell; an image with another name, or with a container, stays on the engine.
        """
        await asyncio.to_thread(self._sweep_loads)
        removed: list[str] = []
        for reference in await self._engine.call(function_calls.named, self._engine.client, self._repository):
            if len(removed) == _REMOVED_AT_ONCE:
                break
            image = await self._inspect(reference)
            if image is None or self._clock() - named_at(image) <= self._policy.keep_s:
                continue
            if await self._engine.call(function_calls.unname, self._engine.client, reference):
                removed.append(reference)
        if removed:
            log.info("removed images that no function has used for long", extra={"images": removed})
        return removed

    async def _check_machine(self, launch: LaunchSpec) -> None:
        if not self._machine:
            self._machine = await self._engine.call(engine_images.engine_architecture, self._engine.client)
        machine = self._machine
        if machine != launch.architecture:
            raise ImageUnavailableError(
                INVALID,
                f"This engine runs {machine} code, and the function is for {launch.architecture}. Update the function's"
                f" Architectures to [{machine}], with an image for it, or add a worker on a machine of"
                f" {launch.architecture}.",
            )

    async def _remembering(self, launch: LaunchSpec, work: Any) -> FunctionImage:
        """Await `work` unless it has failed a moment ago."""
        until, failure = self._failures.get(launch.image_uri, (0.0, None))
        if failure is not None and self._clock() < until:
            work.close()
            raise ImageUnavailableError(failure.code, failure.reason)
        try:
            image: FunctionImage = await work
        except ImageUnavailableError as error:
            now = self._clock()
            self._failures = {uri: kept for uri, kept in self._failures.items() if kept[0] > now}
            self._failures[launch.image_uri] = (now + _FAILED_FOR_S, error)
            raise
        self._failures.pop(launch.image_uri, None)
        return image

    async def _look_up(self, source: Reference, shown: Reference) -> function_calls.Offer:
        try:
            async with asyncio.timeout(REGISTRY_DEADLINE_S):
                return await self._engine.call(function_calls.look_up, self._engine.client, str(source), str(shown))
        except TimeoutError as error:
            raise ImageUnavailableError(
                DENIED,
                f"The registry of image {shown} did not answer within {REGISTRY_DEADLINE_S:g} s.",
            ) from error

    async def _pulled(self, launch: LaunchSpec, reference: Reference) -> FunctionImage:
        tag = f"pulled-{reference.digest.removeprefix('sha256:')}"
        async with self._turn(tag):
            image = await self._inspect(f"{self._repository}:{tag}")
            if image is None:
                image = await self._pull(launch, reference, tag)
        self._check(launch, str(reference), image)
        return await self._used(image, tag, str(reference))

    async def _pull(self, launch: LaunchSpec, reference: Reference, tag: str) -> dict[str, Any]:
        source = str(mirrored(reference, self._policy.prefixes))
        for _ in range(_PULLS):
            was_there = await self._inspect(source) is not None
            if not was_there:
                await self._pull_from(source, launch.architecture, str(reference))
            try:
                image = await self._inspect(source)
                if image is None:
                    # Another worker has pulled it too, and taken the name away that pulling leaves.
                    continue
                self._check(launch, str(reference), image)
                await self._engine.call(function_calls.name, self._engine.client, image["Id"], self._repository, tag)
                return image
            finally:
                if not was_there:
                    await self._engine.call(function_calls.unname, self._engine.client, source)
        raise ImageUnavailableError(DELETED, f"Image {reference} was removed from the engine while it was pulled.")

    async def _pull_from(self, source: str, architecture: str, shown: str) -> None:
        platform = f"linux/{_WORDS.get(architecture, architecture)}"
        try:
            async with asyncio.timeout(PULL_DEADLINE_S):
                await interruptible(self._engine, function_calls.pull, self._engine.client, source, platform, shown)
        except TimeoutError as error:
            raise ImageUnavailableError(
                DENIED, f"Image {shown} was not pulled within {PULL_DEADLINE_S:g} s."
            ) from error

    async def _pushed(self, launch: LaunchSpec) -> FunctionImage:
        shown = launch.image_uri
        if not launch.image_manifest:
            raise ImageUnavailableError(DELETED, f"Source image {shown} does not exist. Provide a valid source image.")
        tag = f"pushed-{launch.image_manifest}"
        manifest = await self._manifest(launch.image_manifest, shown)
        if manifest.architecture != launch.architecture:
            raise _wrong_architecture(shown, f"linux/{manifest.architecture}", launch.architecture)
        async with self._turn(tag):
            image = await self._inspect(f"{self._repository}:{tag}")
            if image is None or not is_of(image, manifest):
                image = await self._load(manifest, tag, shown)
        self._check(launch, shown, image)
        return await self._used(image, tag, shown)

    async def _manifest(self, digest: str, shown: str) -> ImageManifest:
        manifest = self._manifests.get(digest)
        if manifest is None:
            manifest = await read_manifest(self._blobs, digest, shown)
            if len(self._manifests) >= _MANIFESTS:
                self._manifests.pop(next(iter(self._manifests)))
            self._manifests[digest] = manifest
        return manifest

    async def _load(self, manifest: ImageManifest, tag: str, shown: str) -> dict[str, Any]:
        name = f"{self._repository}:{tag}"
        directory = self._loads / uuid.uuid4().hex
        directory.mkdir(parents=True)
        archive = archive_of(manifest, name, self._blobs, directory, asyncio.get_running_loop())
        try:
            await self._engine.call(function_calls.load, self._engine.client, archive, shown)
        except BlobFetchError as error:
            if isinstance(error.__cause__, BlobNotFoundError):
                raise lost(shown, error.__cause__) from error
            raise
        finally:
            await asyncio.to_thread(shutil.rmtree, directory, True)
        image = await self._inspect(name)
        if image is None or not is_of(image, manifest):
            await self._engine.call(function_calls.unname, self._engine.client, name)
            found = image["Id"] if image is not None else "nothing"
            raise ImageUnavailableError(
                INVALID, f"The engine made {found} of image {shown}, which is sha256:{manifest.config}."
            )
        return image

    def _check(self, launch: LaunchSpec, shown: str, image: Mapping[str, Any]) -> None:
        """Raise unless functions can run from the image."""
        if (found := engine_images.architecture(image)) != launch.architecture:
            raise _wrong_architecture(shown, f"{image.get('Os', '')}/{found}", launch.architecture)
        if (size_bytes := int(image.get("Size", 0))) > self._policy.limit_bytes:
            raise ImageUnavailableError(
                INVALID,
                f"Image {shown} has {size_bytes} bytes unpacked; at most {self._policy.limit_bytes} are allowed"
                " (LAMBDOCK_IMAGE_LIMIT_MB).",
            )
        config = image.get("Config") or {}
        if not (launch.entry_point or launch.command or config.get("Entrypoint") or config.get("Cmd")):
            raise ImageUnavailableError(
                INVALID,
                f"Image {shown} has neither ENTRYPOINT nor CMD, so there is nothing to run. Add one to its Dockerfile,"
                " or give the function an ImageConfig with EntryPoint or Command.",
            )

    async def _used(self, image: Mapping[str, Any], tag: str, uri: str) -> FunctionImage:
        if self._clock() - named_at(image) > _RENEW_S:
            await self._engine.call(function_calls.name, self._engine.client, image["Id"], self._repository, tag)
        return described(image, uri)

    async def _inspect(self, reference: str) -> dict[str, Any] | None:
        return await self._engine.call(engine_images.inspect, self._engine.client, reference)

    @asynccontextmanager
    async def _turn(self, tag: str) -> AsyncIterator[None]:
        """One at a time fetches an image: of this worker's tasks, and of the workers that share its directory."""
        lock = self._turns.setdefault(tag, asyncio.Lock())
        async with lock, file_lock(self._locks / f"image-{tag[-2:]}.lock"):
            yield

    def _sweep_loads(self) -> None:
        if not self._loads.is_dir():
            return
        oldest = time.time() - _STALE_LOAD_S
        for directory in self._loads.iterdir():
            if directory.stat().st_mtime < oldest:
                shutil.rmtree(directory, ignore_errors=True)


def function_repository(cell: str) -> str:
    """Return the repository under which an engine has a cell's function images."""
    return f"lambdock/{cell}-functions"


def _fits(platform: tuple[str, str], architecture: str) -> bool:
    system, machine = platform
    return system in ("linux", "") and ARCHITECTURES.get(machine, machine) in (architecture, "")


def _wrong_architecture(shown: str, found: str, wanted: str) -> ImageUnavailableError:
    return ImageUnavailableError(
        INVALID,
        f"Image {shown} is for {found}, and the function is for {wanted}. Build it for that architecture"
        f" (docker build --platform linux/{_WORDS.get(wanted, wanted)}), or update the function's"
        " Architectures.",
    )
