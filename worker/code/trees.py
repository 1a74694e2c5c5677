"""Directory trees that are made once and used by many: a cache of them on the worker's disk."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import time
import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

DEFAULT_LIMIT_BYTES = 10 * 1024**3
#: A tree asked for less than this ago stays: an environment that will mount it may be starting.
MIN_RESIDENCY_S = 120.0
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

#: Makes the tree `tree` in the given directory, which is new and removed afterwards, and returns its size in bytes.
TreeMaker = Callable[[Path], Awaitable[int]]


@dataclass(slots=True)
class _Tree:
    size_bytes: int
    used_at: float


class TreeCache:
    """Trees under `{state_dir}/{name}/{key}`; what is unfinished or condemned lies in `{state_dir}/{name}-tmp`.

    Order: `start`, then anything, then `close`. A tree is complete from the moment its directory exists; a crash leaves
    unfinished ones, which `start` removes.
    """

    def __init__(self, state_dir: Path, name: str, limit_bytes: int) -> None:
        self.root = state_dir / name
        self._name = name
        self._temporary = state_dir / f"{name}-tmp"
        self._boot_file = state_dir / f"{name}-boot-id"
        self._limit_bytes = limit_bytes
        #: Least recently used first.
        self._trees: OrderedDict[str, _Tree] = OrderedDict()
        self._making: dict[str, asyncio.Task[Path]] = {}

    @property
    def size_bytes(self) -> int:
        """What the trees hold, in bytes of contents."""
        return sum(tree.size_bytes for tree in self._trees.values())

    async def start(self) -> None:
        """Remove what a crash left, and take over what is complete. Raises OSError."""
        self._trees = await asyncio.to_thread(self._recover)

    async def close(self) -> None:
        """Abandon what is being made. Idempotent."""
        making = list(self._making.values())
        for task in making:
            task.cancel()
        if making:
            await asyncio.wait(making)

    async def ensure(self, key: str, make: TreeMaker) -> Path:
        """Return the directory of the tree `key`, made by `make` when it isn't there.

        `key` must be a plain file name. Concurrent calls for one key make it once; cancelling one of them leaves the
        others theirs. Raises what `make` raises, and OSError.
        """
        tree = self._trees.get(key)
        if tree is not None:
            tree.used_at = time.monotonic()
            self._trees.move_to_end(key)
            return self.root / key
        task = self._making.get(key)
        if task is None:
            task = asyncio.create_task(self._make(key, make), name=f"make-{self._name}-{key[:12]}")
            self._making[key] = task
            task.add_done_callback(lambda done: self._forget(key, done))
        return await asyncio.shield(task)

    async def evict(self, keep: set[str], *, limit_bytes: int | None = None) -> int:
        """Remove least recently used trees until the rest fits the limit; return how many were removed.

        Never those in `keep` (what environments have mounted), nor what was asked for in the last `MIN_RESIDENCY_S`.
        """
        limit = self._limit_bytes if limit_bytes is None else limit_bytes
        size = self.size_bytes
        now = time.monotonic()
        condemned: list[Path] = []
        for key, tree in list(self._trees.items()):
            if size <= limit:
                break
            if key in keep or now - tree.used_at < MIN_RESIDENCY_S:
                continue
            # Out of sight in one step, so that `ensure` never returns a tree that is being removed.
            grave = self._temporary / uuid.uuid4().hex
            (self.root / key).rename(grave)
            del self._trees[key]
            size -= tree.size_bytes
            condemned.append(grave)
        for grave in condemned:
            await asyncio.to_thread(shutil.rmtree, grave, True)
        return len(condemned)

    def _forget(self, key: str, done: asyncio.Task[Path]) -> None:
        self._making.pop(key, None)
        if not done.cancelled():
            # Also when every caller was cancelled: nobody is left to hear of the failure.
            done.exception()

    async def _make(self, key: str, make: TreeMaker) -> Path:
        temporary = self._temporary / uuid.uuid4().hex
        path = self.root / key
        try:
            temporary.mkdir()
            size_bytes = await make(temporary)
            (temporary / "tree").rename(path)
        finally:
            # Shielded by its thread: a cancellation now leaves the removal running.
            await asyncio.to_thread(shutil.rmtree, temporary, True)
        self._trees[key] = _Tree(size_bytes=size_bytes, used_at=time.monotonic())
        return path

    def _recover(self) -> OrderedDict[str, _Tree]:
        shutil.rmtree(self._temporary, ignore_errors=True)
        boot_id = _boot_id()
        # Making does not sync: after a crash of the machine, files may have lost their contents.
        if not self._boot_file.exists() or self._boot_file.read_text() != boot_id:
            shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir(parents=True, exist_ok=True)
        self._temporary.mkdir()
        for directory in (self.root, self._temporary):
            directory.chmod(0o755)
        self._boot_file.write_text(boot_id)
        trees: OrderedDict[str, _Tree] = OrderedDict()
        long_ago = time.monotonic() - MIN_RESIDENCY_S
        for path in sorted(self.root.iterdir(), key=lambda item: item.stat().st_mtime):
            trees[path.name] = _Tree(size_bytes=_size_of(path), used_at=long_ago)
        return trees


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
