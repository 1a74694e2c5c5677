"""What the preparation of code reads and reports: Pending → Active, InProgress → Successful, or Failed."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto

from contract.launch import LaunchSpec
from controller.domain import function as domain
from controller.domain.arn import LATEST
from controller.domain.errors import PlatformError
from controller.domain.function import Function, PreparationFailure, State
from controller.domain.release import FoundImage, Image
from controller.domain.stamp import StampSource
from controller.resources.functions.heads import HeadPublisher
from controller.resources.functions.ports import FunctionStore, Unprepared
from controller.resources.functions.service import ATTEMPTS
from controller.resources.versions.ports import VersionStore

_PAGE = 500


class _Attempt(Enum):
    """How an attempt to take down an answer went."""

    STORED = auto()
    OBSOLETE = auto()
    #: Something else has changed what it was about to change: look again.
    OVERTAKEN = auto()


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
        """Return the new release as it will be launched; None when there is nothing to ask a worker.

        That is when it is obsolete or has been prepared already, and when it is a copy of a head whose preparation
        will say what image it has.
        """
        function = await self._functions.get_by_uid(function_uid)
        if function is None:
            return None
        if version == LATEST:
            return domain.next_launch(function) if function.head.preparing == revision_id else None
        published = await self._versions.get_version(function_uid, version)
        if published is None or published.preparing != revision_id or domain.awaits_pin_of(published, function.head):
            return None
        return domain.launch_of(function, published)

    async def current_launch(self, function_uid: str, version: str) -> LaunchSpec | None:
        """Return how invocations launch a prepared version now; None when it is not prepared, or gone."""
        function = await self._functions.get_by_uid(function_uid)
        if function is None:
            return None
        if version == LATEST:
            return domain.launch_of(function) if function.live is not None else None
        published = await self._versions.get_version(function_uid, version)
        if published is None or published.state is not State.ACTIVE:
            return None
        return domain.launch_of(function, published)

    async def finish_preparation(
        self,
        function_uid: str,
        version: str,
        revision_id: str,
        failure: PreparationFailure | None,
        found: FoundImage | None = None,
    ) -> bool:
        """Report how a preparation ended, and what image a worker found. False, and nothing done, when it is obsolete.

        For a head that succeeded, admission learns the new generation first: from then on nothing older is
        dispatched, and only then does SQL say Successful. After a crash in between, call again. Raises ValueError
        when it succeeded with an image by tag and `found` does not say which.
        """
        for _ in range(ATTEMPTS):
            if version == LATEST:
                outcome = await self._finish_head(function_uid, revision_id, failure, found)
            else:
                outcome = await self._finish_version(function_uid, version, revision_id, failure, found)
            if outcome is not _Attempt.OVERTAKEN:
                return outcome is _Attempt.STORED
        raise PlatformError(
            f"the preparation of {function_uid}:{version} (revision {revision_id}) could not be stored:"
            f" {ATTEMPTS} concurrent changes came in between; the sweep tries again"
        )

    async def list_unprepared(self) -> Sequence[Unprepared]:
        """Return what awaits preparation, oldest first, for the sweeper."""
        return await self._functions.unprepared()

    async def stored_uids(self) -> set[str]:
        """Return the uids of all functions of all accounts. One stored before the call, and not deleted, is there."""
        found: set[str] = set()
        after = ""
        while page := await self._functions.page_by_uid(after=after, limit=_PAGE):
            found.update(function.uid for function in page)
            after = page[-1].uid
        return found

    async def _finish_head(
        self, function_uid: str, revision_id: str, failure: PreparationFailure | None, found: FoundImage | None
    ) -> _Attempt:
        function = await self._functions.get_by_uid(function_uid)
        if function is None or function.head.preparing != revision_id:
            return _Attempt.OBSOLETE
        if failure is None and not function.head.is_sealed:
            # Or a second preparation that failed could leave admission in a generation that SQL never reaches, and
            # one that found another image under the same tag could give two workers different code.
            sealed = domain.seal(function, found, self._stamps())
            if not await self._functions.replace(sealed, function.head.revision_id):
                return _Attempt.OVERTAKEN
            function = sealed
        if function.head.is_sealed:
            if not await self._pin_copy(function):
                return _Attempt.OVERTAKEN
            failure = None
        finished = domain.finish_head(function, failure, self._stamps())
        if failure is None:
            await self._heads.publish(domain.head_of(finished))
        stored = await self._functions.replace(finished, function.head.revision_id)
        if not stored and await self._functions.get_by_uid(function_uid) is None:
            # Deleted meanwhile: what was just published must not outlive it.
            await self._heads.retire(domain.head_of(finished))
        return _Attempt.STORED if stored else _Attempt.OVERTAKEN

    async def _pin_copy(self, function: Function) -> bool:
        """Give a version that was published together with the head the same image; False when to try again."""
        if not isinstance(function.head.release.code, Image):
            return True
        newest = await self._versions.newest_version(function.uid)
        if newest is None or not domain.awaits_pin_of(newest, function.head):
            return True
        pinned = domain.pin_copy(newest, function.head, self._stamps())
        return await self._versions.replace_version(pinned, newest.revision_id)

    async def _finish_version(  # internal, as finish_preparation
        self,
        function_uid: str,
        version: str,
        revision_id: str,
        failure: PreparationFailure | None,
        found: FoundImage | None,
    ) -> _Attempt:
        published = await self._versions.get_version(function_uid, version)
        if published is None or published.preparing != revision_id:
            return _Attempt.OBSOLETE
        finished = domain.finish_version(published, failure, self._stamps(), found)
        stored = await self._versions.replace_version(finished, published.revision_id)
        return _Attempt.STORED if stored else _Attempt.OVERTAKEN
