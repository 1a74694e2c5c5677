"""Publishes, lists and deletes versions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from controller.domain import errors
from controller.domain import function as domain
from controller.domain.arn import FunctionIdentifier
from controller.domain.function import Function, FunctionVersion
from controller.domain.release import fingerprint
from controller.domain.stamp import StampSource
from controller.resources.functions.answers import shown_digest
from controller.resources.functions.heads import HeadPublisher
from controller.resources.functions.lookup import Found, FunctionLookup
from controller.resources.functions.ports import FunctionStore, PreparationQueue
from controller.resources.functions.service import ATTEMPTS, enqueue, page_size
from controller.resources.versions.ports import VersionStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """What PublishVersion asks for, already checked."""

    #: Base64; refused unless it is the code's.
    code_sha256: str | None = None
    #: The version's own description, in place of the function's.
    description: str | None = None
    revision_id: str | None = None


class VersionService:
    """The operations on published versions."""

    def __init__(
        self,
        *,
        functions: FunctionStore,
        versions: VersionStore,
        lookup: FunctionLookup,
        heads: HeadPublisher,
        queue: PreparationQueue,
        stamps: StampSource,
    ) -> None:
        self._functions = functions
        self._versions = versions
        self._lookup = lookup
        self._heads = heads
        self._queue = queue
        self._stamps = stamps

    async def publish(self, account: str, region: str, name: FunctionIdentifier, wanted: Publication) -> Found:
        """Freeze `$LATEST` as the next version; return the newest version when nothing has changed since."""
        for _ in range(ATTEMPTS):
            before = (await self._lookup.find(account, region, name)).function
            domain.check_revision(before.head, wanted.revision_id)
            domain.check_settled(before)
            _check_code(before, wanted.code_sha256)
            newest = await self._versions.newest_version(before.uid)
            if newest is not None and newest.origin == fingerprint(before.head.release):
                return Found(function=before, version=newest, is_qualified=True)
            stamp = self._stamps()
            function, version = domain.publish(before, wanted.description, stamp)
            function = replace(function, head=replace(function.head, revision_id=self._stamps().revision_id))
            if await self._functions.replace(function, before.head.revision_id, version):
                if version.preparing is not None:
                    await enqueue(self._queue, version)
                return Found(function=function, version=version, is_qualified=True)
        raise errors.update_in_progress(name.arn(account, region))

    async def list(
        self, account: str, region: str, name: FunctionIdentifier, *, after: int, limit: int | None
    ) -> tuple[Function, Sequence[FunctionVersion]]:
        """Return one page, `$LATEST` (number 0) first, and one entry more when there are further pages."""
        function = (await self._lookup.find(account, region, name)).function
        size = page_size(limit) + 1
        if after >= 0:
            return function, await self._versions.page_versions(function.uid, after=after, limit=size)
        published = await self._versions.page_versions(function.uid, after=0, limit=size - 1)
        return function, [function.head, *published]

    async def delete(self, account: str, region: str, name: FunctionIdentifier) -> None:
        """Delete the published version that `name` names. Raises ResourceNotFoundError."""
        found = await self._lookup.find(account, region, name)
        if not await self._versions.delete_version(found.function.uid, found.version.version):
            raise errors.function_not_found(name.arn(account, region))
        # After the row: a name that is resolved from now on does not find it. Before the answer: none runs after it.
        await self._heads.retire_version(found.function.uid, found.version.version)


def _check_code(function: Function, code_sha256: str | None) -> None:
    actual = shown_digest(function.head.release.code)
    if code_sha256 is not None and code_sha256 != actual:
        raise errors.code_sha_mismatch(code_sha256, actual)
