"""Layers in one process's memory, for tests and for trying things out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from controller.domain.layer import LayerVersion
from controller.resources.layers.ports import Compatibility

_Key = tuple[str, str, str]


class MemoryLayerStore:
    """A LayerStore. No method awaits, so each is atomic."""

    def __init__(self) -> None:
        self._last: dict[_Key, int] = {}
        self._versions: dict[_Key, dict[int, LayerVersion]] = {}

    async def add(self, version: LayerVersion) -> LayerVersion:
        """See LayerStore."""
        key = (version.account, version.region, version.name)
        number = self._last.get(key, 0) + 1
        self._last[key] = number
        stored = replace(version, number=number)
        self._versions.setdefault(key, {})[number] = stored
        return stored

    async def get(self, account: str, region: str, name: str, number: int) -> LayerVersion | None:
        """See LayerStore."""
        return self._versions.get((account, region, name), {}).get(number)

    async def page(
        self, account: str, region: str, *, compatible: Compatibility, after: str, limit: int
    ) -> Sequence[LayerVersion]:
        """See LayerStore."""
        newest: dict[str, LayerVersion] = {}
        for version in self._all():
            if (version.account, version.region) == (account, region) and _matches(version, compatible):
                held = newest.get(version.name)
                newest[version.name] = version if held is None or version.number > held.number else held
        return [newest[name] for name in sorted(newest) if name > after][:limit]

    async def page_versions(
        self, account: str, region: str, name: str, *, compatible: Compatibility, before: int, limit: int
    ) -> Sequence[LayerVersion]:
        """See LayerStore."""
        versions = self._versions.get((account, region, name), {})
        found = (versions[number] for number in sorted(versions, reverse=True) if number < before)
        return [version for version in found if _matches(version, compatible)][:limit]

    async def delete(self, account: str, region: str, name: str, number: int) -> bool:
        """See LayerStore."""
        return self._versions.get((account, region, name), {}).pop(number, None) is not None

    async def stored_bytes(self, account: str, region: str) -> int:
        """See LayerStore."""
        return sum(one.package.size_bytes for one in self._all() if (one.account, one.region) == (account, region))

    async def referenced_blobs(self) -> set[str]:
        """See LayerStore."""
        return {one.package.sha256 for one in self._all()}

    def _all(self) -> Iterator[LayerVersion]:
        for versions in self._versions.values():
            yield from versions.values()


def _matches(version: LayerVersion, wanted: Compatibility) -> bool:
    return (wanted.runtime is None or wanted.runtime in version.compatible_runtimes) and (
        wanted.architecture is None or wanted.architecture in version.compatible_architectures
    )
