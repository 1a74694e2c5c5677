"""Creates, reads, changes and deletes functions."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from controller.domain import errors
from controller.domain import function as domain
from controller.domain.arn import LATEST, FunctionIdentifier
from controller.domain.function import Function, FunctionVersion
from controller.domain.release import Image, LayerUse, Release, Settings
from controller.domain.stamp import StampSource
from controller.domain.validation import check_environment
from controller.resources.functions.code import CodeIntake, CodeSource, check_kind, check_release
from controller.resources.functions.heads import DIRECTORY_DEADLINE_S, HeadPublisher
from controller.resources.functions.lookup import Found, FunctionLookup
from controller.resources.functions.ports import FunctionExistsError, FunctionStore, PreparationQueue

_log = logging.getLogger(__name__)

#: How often a change starts over when another one, that it need not refuse, came in between.
ATTEMPTS = 20
#: Entries of one page at most, whatever MaxItems says; as on AWS.
PAGE_MAX = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFunction:
    """A function as the caller wants it, already checked."""

    account: str
    region: str
    name: str
    #: Without layers, which are yet to be found.
    settings: Settings
    code: CodeSource
    tags: Mapping[str, str]
    #: ARNs of layer versions.
    layers: Sequence[str] = ()
    publish: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCode:
    """What UpdateFunctionCode asks for, already checked."""

    code: CodeSource
    architecture: str | None = None
    publish: bool = False
    dry_run: bool = False
    revision_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewConfiguration:
    """What UpdateFunctionConfiguration asks for, already checked."""

    #: Returns the present settings with what the caller changes of them, except layers; may be called more than once.
    change: Callable[[Settings], Settings]
    #: ARNs of layer versions, in place of all present ones; None to keep those.
    layers: Sequence[str] | None = None
    revision_id: str | None = None


class FunctionService:
    """The operations on functions. Refuses with LambdaError; whatever else it raises is the platform's failure."""

    def __init__(
        self,
        *,
        store: FunctionStore,
        lookup: FunctionLookup,
        code: CodeIntake,
        heads: HeadPublisher,
        queue: PreparationQueue,
        stamps: StampSource,
    ) -> None:
        self._store = store
        self._lookup = lookup
        self._code = code
        self._heads = heads
        self._queue = queue
        self._stamps = stamps

    async def create(self, new: NewFunction) -> Found:
        """Store a Pending function (and version 1 if asked), and ask for its preparation."""
        if await self._store.get(new.account, new.region, new.name) is not None:
            raise errors.function_exists(new.name)
        async with self._code.open(new.account, new.code) as opened:
            layers = await self._code.layers(new.account, new.region, new.layers)
            release = Release(settings=replace(new.settings, layers=layers), code=opened.code)
            check_release(release)
            await opened.store()
        # Again: what a layer consists of is kept only as long as somebody names it, and storing may have taken minutes.
        await self._code.layers(new.account, new.region, new.layers)
        function = domain.new_function(
            uid=uuid.uuid4().hex,
            account=new.account,
            region=new.region,
            name=new.name,
            release=release,
            tags=new.tags,
            stamp=self._stamps(),
        )
        version = None
        if new.publish:
            function, version = domain.publish(function, None, self._stamps())
        try:
            await self._store.create(function, version)
        except FunctionExistsError as error:
            raise errors.function_exists(new.name) from error
        await self._announce(function, version)
        return Found(function=function, version=version or function.head, is_qualified=version is not None)

    async def get(self, account: str, region: str, name: FunctionIdentifier) -> Found:
        """Return the function with the version that the caller named, `$LATEST` otherwise."""
        return await self._lookup.find(account, region, name)

    async def list(self, account: str, region: str, *, after: str, limit: int | None) -> Sequence[Function]:
        """Return one page, and one entry more when there are further pages."""
        return await self._store.page(account, region, after=after, limit=page_size(limit) + 1)

    async def list_with_versions(
        self, account: str, region: str, *, after: tuple[str, int], limit: int | None
    ) -> Sequence[tuple[Function, FunctionVersion]]:
        """Return one page, published versions included, and one entry more when there are further pages."""
        return await self._store.page_with_versions(account, region, after=after, limit=page_size(limit) + 1)

    async def update_code(self, account: str, region: str, name: FunctionIdentifier, code: NewCode) -> Found:
        """Begin an update to new code. A dry run checks everything and changes nothing."""
        function = (await self._lookup.find(account, region, name)).function
        domain.check_revision(function.head, code.revision_id)
        check_kind(function.head.release.code, code.code)
        domain.check_settled(function)
        async with self._code.open(account, code.code) as opened:

            def change(release: Release) -> Release:
                settings = _with_architecture(release.settings, code.architecture)
                changed = Release(settings=settings, code=opened.code)
                check_kind(release.code, code.code)
                check_release(changed)
                return changed

            tried = change(function.head.release)
            if code.dry_run:
                head = replace(function.head, release=tried)
                return Found(function=function, version=head, is_qualified=False)
            await opened.store()
        return await self._update(account, region, name, change, code.revision_id, publish=code.publish)

    async def update_configuration(
        self, account: str, region: str, name: FunctionIdentifier, new: NewConfiguration
    ) -> Found:
        """Begin an update to new settings of the code that is there: an image stays the one that its tag meant."""
        function = (await self._lookup.find(account, region, name)).function
        domain.check_revision(function.head, new.revision_id)
        domain.check_settled(function)
        if new.layers and isinstance(function.head.release.code, Image):
            raise errors.InvalidParameterValueError(errors.ZIP_SETTINGS_FOR_IMAGE)
        layers: tuple[LayerUse, ...] | None = None
        if new.layers is not None:
            layers = await self._code.layers(account, region, new.layers)

        def apply(release: Release) -> Release:
            settings = new.change(release.settings)
            if layers is not None:
                settings = replace(settings, layers=layers)
            check_environment(settings.environment or {})
            changed = replace(release, settings=settings)
            check_release(changed)
            return changed

        return await self._update(account, region, name, apply, new.revision_id, publish=False)

    async def delete(self, account: str, region: str, name: FunctionIdentifier) -> None:
        """Delete the function with all its versions; on return admission refuses it.

        Retiring comes second, since it can't be undone. If it fails the deletion stands, the caller hears of a
        platform failure, and the collection retires what has no row.
        """
        if name.qualifier == LATEST:
            raise errors.InvalidParameterValueError(errors.LATEST_NOT_DELETABLE)
        function = (await self._lookup.find(account, region, name)).function
        if not await self._store.delete(function.uid):
            raise errors.function_not_found(name.arn(account, region))
        await self._heads.retire(domain.head_of(function))

    async def _update(  # internal, one call per argument's origin
        self,
        account: str,
        region: str,
        name: FunctionIdentifier,
        change: Callable[[Release], Release],
        revision_id: str | None,
        *,
        publish: bool,
    ) -> Found:
        for _ in range(ATTEMPTS):
            before = (await self._lookup.find(account, region, name)).function
            domain.check_revision(before.head, revision_id)
            function = domain.begin_update(before, change(before.head.release), self._stamps())
            version = None
            if publish:
                function, version = domain.publish(function, None, self._stamps())
            if await self._store.replace(function, before.head.revision_id, version):
                await self._announce(function, version)
                return Found(function=function, version=version or function.head, is_qualified=version is not None)
        raise errors.update_in_progress(name.arn(account, region))

    async def _announce(self, function: Function, version: FunctionVersion | None) -> None:
        """Tell admission and the preparation; what fails here, the sweep makes good before anything is Active."""
        try:
            await self._heads.publish_current(function.uid)
        except Exception:  # noqa: BLE001 - published again before it becomes Active
            _log.exception("could not publish a function's head", extra={"function_arn": function.arn()})
        for one in (function.head, version):
            if one is not None and one.preparing is not None:
                await enqueue(self._queue, one)


async def enqueue(queue: PreparationQueue, version: FunctionVersion) -> None:
    """Ask for the preparation of a stored version; a failure is logged, since the sweep asks again."""
    try:
        async with asyncio.timeout(DIRECTORY_DEADLINE_S):
            await queue.enqueue(version.function_uid, version.version, version.preparing or "")
    except Exception:  # noqa: BLE001 - the row says that it is unprepared, which the sweep finds
        _log.exception("could not enqueue a preparation", extra={"function_uid": version.function_uid})


def page_size(limit: int | None) -> int:
    """Return how many entries a page has that may have `limit`."""
    return PAGE_MAX if limit is None else min(limit, PAGE_MAX)


def _with_architecture(settings: Settings, architecture: str | None) -> Settings:
    return settings if architecture is None else replace(settings, architecture=architecture)
