"""All stores of the control plane in one process's memory, for tests and for trying things out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from controller.domain.concurrency import check_reservation
from controller.domain.function import Function, FunctionVersion
from controller.domain.release import Image, Package, Release
from controller.resources.account.ports import AccountUsage
from controller.resources.functions.ports import FunctionExistsError, Unprepared


class MemoryStore:
    """FunctionStore, VersionStore, ReservationStore and UsageStore. No method awaits, so each is atomic."""

    def __init__(self) -> None:
        self._functions: dict[str, Function] = {}
        self._versions: dict[str, dict[int, FunctionVersion]] = {}

    async def create(self, function: Function, version: FunctionVersion | None = None) -> None:
        """See FunctionStore."""
        if await self.get(function.account, function.region, function.name) is not None:
            raise FunctionExistsError(function.arn())
        self._functions[function.uid] = function
        self._versions[function.uid] = {}
        if version is not None:
            self._versions[function.uid][int(version.version)] = version

    async def get(self, account: str, region: str, name: str) -> Function | None:
        """See FunctionStore."""
        return next((one for one in self._of(account, region) if one.name == name), None)

    async def get_by_uid(self, uid: str) -> Function | None:
        """See FunctionStore."""
        return self._functions.get(uid)

    async def replace(
        self, function: Function, expected_revision_id: str, version: FunctionVersion | None = None
    ) -> bool:
        """See FunctionStore."""
        stored = self._functions.get(function.uid)
        if stored is None or stored.head.revision_id != expected_revision_id:
            return False
        self._functions[function.uid] = replace(function, reserved_concurrency=stored.reserved_concurrency)
        if version is not None:
            self._versions[function.uid][int(version.version)] = version
        return True

    async def delete(self, uid: str) -> bool:
        """See FunctionStore."""
        self._versions.pop(uid, None)
        return self._functions.pop(uid, None) is not None

    async def page(self, account: str, region: str, *, after: str, limit: int) -> Sequence[Function]:
        """See FunctionStore."""
        found = (one for one in self._of(account, region) if one.name > after)
        return sorted(found, key=lambda one: one.name)[:limit]

    async def page_with_versions(
        self, account: str, region: str, *, after: tuple[str, int], limit: int
    ) -> Sequence[tuple[Function, FunctionVersion]]:
        """See FunctionStore."""
        numbered = [
            ((function.name, number), function, version)
            for function in self._of(account, region)
            for number, version in {0: function.head, **self._versions[function.uid]}.items()
            if (function.name, number) > after
        ]
        numbered.sort(key=lambda row: row[0])
        return [(function, version) for _, function, version in numbered[:limit]]

    async def page_by_uid(self, *, after: str, limit: int) -> Sequence[Function]:
        """See FunctionStore."""
        return [self._functions[uid] for uid in sorted(self._functions) if uid > after][:limit]

    async def unprepared(self) -> Sequence[Unprepared]:
        """See FunctionStore."""
        found = [
            Unprepared(
                function_uid=version.function_uid,
                version=version.version,
                revision_id=version.preparing,
                since=version.preparing_since,
            )
            for version in self._all_versions()
            if version.preparing is not None and version.preparing_since is not None
        ]
        return sorted(found, key=lambda one: one.since)

    async def referenced_blobs(self) -> set[str]:
        """See FunctionStore."""
        return {sha256 for release in self._all_releases() for sha256 in release.blobs}

    async def referenced_images(self) -> set[str]:
        """See FunctionStore."""
        images = (release.code for release in self._all_releases() if isinstance(release.code, Image))
        return {image.manifest_sha256 for image in images} - {""}

    async def get_version(self, function_uid: str, version: str) -> FunctionVersion | None:
        """See VersionStore."""
        return self._versions.get(function_uid, {}).get(int(version))

    async def newest_version(self, function_uid: str) -> FunctionVersion | None:
        """See VersionStore."""
        versions = self._versions.get(function_uid, {})
        return versions[max(versions)] if versions else None

    async def page_versions(self, function_uid: str, *, after: int, limit: int) -> Sequence[FunctionVersion]:
        """See VersionStore."""
        versions = self._versions.get(function_uid, {})
        return [versions[number] for number in sorted(versions) if number > after][:limit]

    async def replace_version(self, version: FunctionVersion, expected_revision_id: str) -> bool:
        """See VersionStore."""
        stored = await self.get_version(version.function_uid, version.version)
        if stored is None or stored.revision_id != expected_revision_id:
            return False
        self._versions[version.function_uid][int(version.version)] = version
        return True

    async def delete_version(self, function_uid: str, version: str) -> bool:
        """See VersionStore."""
        return self._versions.get(function_uid, {}).pop(int(version), None) is not None

    async def reserve(
        self, function_uid: str, wanted: int | None, *, account_limit: int, revision_id: str
    ) -> Function | None:
        """See ReservationStore."""
        function = self._functions.get(function_uid)
        if function is None:
            return None
        if wanted is not None:
            others = (one for one in self._of(function.account, function.region) if one.uid != function_uid)
            reserved = sum(one.reserved_concurrency or 0 for one in others)
            check_reservation(wanted=wanted, reserved_by_others=reserved, account_limit=account_limit)
        head = replace(function.head, revision_id=revision_id)
        self._functions[function_uid] = replace(function, head=head, reserved_concurrency=wanted)
        return self._functions[function_uid]

    async def usage(self, account: str, region: str) -> AccountUsage:
        """See UsageStore."""
        functions = list(self._of(account, region))
        versions = [version for one in functions for version in (one.head, *self._versions[one.uid].values())]
        codes = [version.release.code for version in versions]
        return AccountUsage(
            code_bytes=sum(code.size_bytes for code in codes if isinstance(code, Package)),
            function_count=len(functions),
            reserved_concurrency=sum(one.reserved_concurrency or 0 for one in functions),
        )

    def _of(self, account: str, region: str) -> Iterator[Function]:
        return (one for one in self._functions.values() if (one.account, one.region) == (account, region))

    def _all_releases(self) -> Iterator[Release]:
        yield from (version.release for version in self._all_versions())
        yield from (one.live for one in self._functions.values() if one.live is not None)

    def _all_versions(self) -> Iterator[FunctionVersion]:
        for function in self._functions.values():
            yield function.head
            yield from self._versions[function.uid].values()
