"""Unpacked deployment packages, each once per worker, shared by all environments of all versions that use it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import time
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from contract.blobs.digest import checked
from contract.blobs.store import BlobNotFoundError, BlobStore
from contract.packages import PackageError, unpack_zip

DEFAULT_LIMIT_BYTES = 10 * 1024**3
#: A package asked for less than this ago stays: an environment that will mount it may be starting.
MIN_RESIDENCY_S = 120.0
_FETCH_TIMEOUT_S = 120.0
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class CodeUnavailableError(Exception):
    """The package can't be had on this worker now. `str()` says which and why."""


@dataclass(slots=True)
class _Package:
    size_bytes: int
    used_at: float


class CodeCache:
    """Packages under `{state_dir}/code/{sha256}`; what is unfinished or condemned lies in `{state_dir}/code-tmp`.

    Order: `start`, then anything, then `close`. A package is complete from the moment its directory exists; a crash
    leaves unfinished ones, which `start` removes.
    """

    def __init__(self, blobs: BlobStore, state_dir: Path, *, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        self._blobs = blobs
        self._root = state_dir / "code"
        self._temporary = state_dir / "code-tmp"
        self._boot_file = state_dir / "code-boot-id"
        self._limit_bytes = limit_bytes
        #: Least recently used first.
        self._packages: OrderedDict[str, _Package] = OrderedDict()
        self._fetches: dict[str, asyncio.Task[Path]] = {}

    @property
    def size_bytes(self) -> int:
        """What the packages take on disk, in bytes of contents."""
        return sum(package.size_bytes for package in self._packages.values())

    async def start(self) -> None:
        """Remove what a crash left, and take over what is complete. Raises OSError."""
        self._packages = await asyncio.to_thread(self._recover)

    async def close(self) -> None:
        """Abandon what is being fetched. Idempotent."""
        fetches = list(self._fetches.values())
        for fetch in fetches:
            fetch.cancel()
        if fetches:
            await asyncio.wait(fetches)

    async def ensure(self, code_sha256: str) -> Path:
        """Return the directory of the unpacked package, fetching it when it isn't there.

        The tree belongs to this process's user and is to be mounted read-only. Concurrent calls for one package fetch
        it once; cancelling one of them leaves the others their fetch. Raises CodeUnavailableError.
        """
        path = self._root / checked(code_sha256)
        package = self._packages.get(code_sha256)
        if package is not None:
            package.used_at = time.monotonic()
            self._packages.move_to_end(code_sha256)
            return path
        fetch = self._fetches.get(code_sha256)
        if fetch is None:
            fetch = asyncio.create_task(self._fetch(code_sha256, path), name=f"fetch-code-{code_sha256[:12]}")
            self._fetches[code_sha256] = fetch
            fetch.add_done_callback(lambda done: self._forget_fetch(code_sha256, done))
        return await asyncio.shield(fetch)

    async def evict(self, keep: set[str], *, limit_bytes: int | None = None) -> int:
        """Remove least recently used packages until the rest fits the limit; return how many were removed.

        Never those in `keep` (what environments have mounted), nor what was asked for in the last `MIN_RESIDENCY_S`.
        """
        limit = self._limit_bytes if limit_bytes is None else limit_bytes
        size = self.size_bytes
        now = time.monotonic()
        condemned: list[Path] = []
        for sha256, package in list(self._packages.items()):
            if size <= limit:
                break
            if sha256 in keep or now - package.used_at < MIN_RESIDENCY_S:
                continue
            # Out of sight in one step, so that `ensure` never returns a tree that is being removed.
            grave = self._temporary / uuid.uuid4().hex
            (self._root / sha256).rename(grave)
            del self._packages[sha256]
            size -= package.size_bytes
            condemned.append(grave)
        for grave in condemned:
            await asyncio.to_thread(shutil.rmtree, grave, True)
        return len(condemned)

    def _forget_fetch(self, code_sha256: str, done: asyncio.Task[Path]) -> None:
        self._fetches.pop(code_sha256, None)
        if not done.cancelled():
            # Also when every caller was cancelled: nobody is left to hear of the failure.
            done.exception()

    async def _fetch(self, code_sha256: str, path: Path) -> Path:
        temporary = self._temporary / uuid.uuid4().hex
        try:
            temporary.mkdir()
            archive = temporary / "package.zip"
            async with asyncio.timeout(_FETCH_TIMEOUT_S):
                await self._blobs.copy_to(code_sha256, archive)
            size_bytes = await asyncio.to_thread(unpack_zip, archive, temporary / "tree")
            (temporary / "tree").rename(path)
        except BlobNotFoundError as error:
            raise CodeUnavailableError(f"code {code_sha256} is not in the blob store: {error}") from error
        except PackageError as error:
            raise CodeUnavailableError(f"code {code_sha256} can't be unpacked: {error}") from error
        except TimeoutError as error:
            raise CodeUnavailableError(
                f"code {code_sha256} was not fetched from the blob store within {_FETCH_TIMEOUT_S:.0f} s"
            ) from error
        except OSError as error:
            raise CodeUnavailableError(f"code {code_sha256} can't be stored in {self._root}: {error}") from error
        finally:
            # Shielded by its thread: a cancellation now leaves the removal running.
            await asyncio.to_thread(shutil.rmtree, temporary, True)
        self._packages[code_sha256] = _Package(size_bytes=size_bytes, used_at=time.monotonic())
        return path

    def _recover(self) -> OrderedDict[str, _Package]:
        shutil.rmtree(self._temporary, ignore_errors=True)
        boot_id = _boot_id()
        # Unpacking does not sync: after a crash of the machine, files may have lost their contents.
        if not self._boot_file.exists() or self._boot_file.read_text() != boot_id:
            shutil.rmtree(self._root, ignore_errors=True)
        self._root.mkdir(parents=True, exist_ok=True)
        self._temporary.mkdir()
        for directory in (self._root, self._temporary):
            directory.chmod(0o755)
        self._boot_file.write_text(boot_id)
        packages: OrderedDict[str, _Package] = OrderedDict()
        long_ago = time.monotonic() - MIN_RESIDENCY_S
        for path in sorted(self._root.iterdir(), key=lambda item: item.stat().st_mtime):
            packages[path.name] = _Package(size_bytes=_size_of(path), used_at=long_ago)
        return packages


def _boot_id() -> str:
    with contextlib.suppress(OSError):
        return _BOOT_ID.read_text().strip()
    return ""


def _size_of(directory: Path) -> int:
    size = 0
    for parent, _, names in os.walk(directory):
        for name in names:
            size += os.lstat(os.path.join(parent, name)).st_size
    return size
