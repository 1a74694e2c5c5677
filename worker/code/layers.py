"""What environments find in `/opt`: layers merged in order, each combination once per worker."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from pathlib import Path

from worker.code.cache import CodeCache, CodeUnavailableError
from worker.code.merging import merge_trees
from worker.code.trees import DEFAULT_LIMIT_BYTES, TreeCache


def merged_key(digests: Sequence[str]) -> str:
    """Return the name under which the merged tree of these layers, in this order, is kept. Pure."""
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def keys_in_use(code_sha256: str, layers: Sequence[str]) -> set[str]:
    """Return the keys, of both caches, that an environment with this code and these layers has mounted. Pure."""
    return {code_sha256, *layers, merged_key(layers)} if layers else {code_sha256}


class LayerTrees:
    """Merged layers under `{state_dir}/layers/{key}`, made of the layers that `code` has unpacked.

    Order: `start` (after the code cache's), then anything, then `close` (before the code cache's).
    """

    def __init__(self, code: CodeCache, state_dir: Path, *, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        self._code = code
        self._trees = TreeCache(state_dir, "layers", limit_bytes)
        self.start = self._trees.start
        self.close = self._trees.close
        self.evict = self._trees.evict

    async def ensure(self, digests: Sequence[str]) -> Path | None:
        """Return the directory to mount read-only at `/opt`; None without layers. Later layers win.

        One layer alone is mounted as it was unpacked. Raises CodeUnavailableError.
        """
        if not digests:
            return None
        if len(digests) == 1:
            return await self._code.ensure(digests[0])
        try:
            return await self._trees.ensure(merged_key(digests), lambda directory: self._merge(digests, directory))
        except OSError as error:
            raise CodeUnavailableError(
                f"{len(digests)} layers can't be merged in {self._trees.root}: {error}"
            ) from error

    async def _merge(self, digests: Sequence[str], directory: Path) -> int:
        # Just asked for, they stay where they are for as long as merging takes (`MIN_RESIDENCY_S`).
        unpacked = await asyncio.gather(*(self._code.ensure(digest) for digest in digests))
        return await asyncio.to_thread(merge_trees, unpacked, directory / "tree")
