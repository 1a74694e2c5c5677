"""What the preparation of code reads and reports: Pending → Active, InProgress → Successful, or Failed."""

from __future__ import annotations

from collections.abc import Sequence

from contract.launch import LaunchSpec
from controller.domain import function as domain
from controller.domain.arn import LATEST
from controller.domain.errors import PlatformError
from controller.domain.function import PreparationFailure
from controller.domain.stamp import StampSource
from controller.resources.functions.heads import HeadPublisher
from controller.resources.functions.ports import FunctionStore, Unprepared
from controller.resources.functions.service import ATTEMPTS
from controller.resources.versions.ports import VersionStore

_PAGE = 500


class PreparationService:
    """Every method is idempotent: a preparation may run twice, and die anywhere."""

    def __init__(
        self, *, functions: FunctionStore, versions: VersionStore, heads: HeadPublisher, stamps: StampSource
    ) -> None:
        self._functions = functions
        self._versions = versions
        self._heads = heads
        self._stamps = stamps

    async def preparation_target(self, function_uid: str, version: str, revision_id: str) -> LaunchSpec | None:
        """Return the new release as it will be launched; None when it is obsolete or has been prepared already."""
        function = await self._functions.get_by_uid(function_uid)
        if function is None:
            return None
        if version == LATEST:
            return domain.next_launch(function) if function.head.preparing == revision_id else None
        published = await self._versions.get_version(function_uid, version)
        if published is None or published.preparing != revision_id:
            return None
        return domain.launch_of(function, published)

    async def finish_preparation(
        self, function_uid: str, version: str, revision_id: str, failure: PreparationFailure | None
    ) -> None:
        """Report how a preparation ended. No-op when it is obsolete.

        For a head that succeeded, admission learns the new generation first: from then on nothing older is
        dispatched, and only then does SQL say Successful. After a crash in between, call again.
        """
        for _ in range(ATTEMPTS):
            if version == LATEST:
                done = await self._finish_head(function_uid, revision_id, failure)
            else:
                done = await self._finish_version(function_uid, version, revision_id, failure)
            if done:
                return
        raise PlatformError(
            f"the preparation of {function_uid}:{version} (revision {revision_id}) could not be stored:"
            f" {ATTEMPTS} concurrent changes came in between; the sweep tries again"
        )

    async def list_unprepared(self) -> Sequence[Unprepared]:
        """Return what awaits preparation, oldest first, for the sweeper."""
        return await self._functions.unprepared()

    async def referenced_blobs(self) -> set[str]:
        """Return the digests that the collector must keep."""
        return await self._functions.referenced_blobs()

    async def stored_uids(self) -> set[str]:
        """Return the uids of all functions of all accounts. One stored before the call, and not deleted, is there."""
        found: set[str] = set()
        after = ""
        while page := await self._functions.page_by_uid(after=after, limit=_PAGE):
            found.update(function.uid for function in page)
            after = page[-1].uid
        return found

    async def _finish_head(self, function_uid: str, revision_id: str, failure: PreparationFailure | None) -> bool:
        function = await self._functions.get_by_uid(function_uid)
        if function is None or function.head.preparing != revision_id:
            return True
        if failure is None and not function.head.is_sealed:
            # Or a second preparation that failed could leave admission in a generation that SQL never reaches.
            sealed = domain.seal(function, self._stamps())
            if not await self._functions.replace(sealed, function.head.revision_id):
                return False
            function = sealed
        finished = domain.finish_head(function, None if function.head.is_sealed else failure, self._stamps())
        if function.head.is_sealed:
            await self._heads.publish(domain.head_of(finished))
        stored = await self._functions.replace(finished, function.head.revision_id)
        if not stored and await self._functions.get_by_uid(function_uid) is None:
            # Deleted meanwhile: what was just published must not outlive it.
            await self._heads.retire(domain.head_of(finished))
        return stored

    async def _finish_version(
        self, function_uid: str, version: str, revision_id: str, failure: PreparationFailure | None
    ) -> bool:
        published = await self._versions.get_version(function_uid, version)
        if published is None or published.preparing != revision_id:
            return True
        finished = domain.finish_version(published, failure, self._stamps())
        return await self._versions.replace_version(finished, published.revision_id)
