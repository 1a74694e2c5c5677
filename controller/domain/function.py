"""A function, its versions, and every change of their states.

create ─▶ Pending ─▶ Active ◀─┐            update ─▶ InProgress ─▶ Successful (the new release is live)
             └─▶ Failed ─update┘                           └─▶ Failed (the old release stays live)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from contract.launch import LaunchSpec
from controller.domain import errors
from controller.domain.arn import LATEST, function_arn
from controller.domain.release import (
    FoundImage,
    Image,
    ImageConfig,
    Package,
    Release,
    fingerprint,
    pinned,
    unpinned,
)
from controller.domain.stamp import Stamp

CREATING = "The function is being created."
CREATING_CODE = "Creating"


class State(StrEnum):
    """Whether a version can be invoked."""

    PENDING = "Pending"
    ACTIVE = "Active"
    FAILED = "Failed"


class UpdateStatus(StrEnum):
    """How far the last update has come."""

    SUCCESSFUL = "Successful"
    FAILED = "Failed"
    IN_PROGRESS = "InProgress"


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparationFailure:
    """Why a release can't run, in the words of Lambda's StateReasonCode and for a human."""

    reason_code: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionVersion:
    """One version as the API shows it: `$LATEST`, or a published, immutable one."""

    function_uid: str
    #: `$LATEST` or a decimal number.
    version: str
    release: Release
    revision_id: str
    modified_at: datetime
    state: State = State.PENDING
    state_reason: PreparationFailure | None = None
    update_status: UpdateStatus | None = None
    update_reason: PreparationFailure | None = None
    #: The revision whose release awaits preparation, None when there is nothing to prepare. Later changes that
    #: need no preparation give the version another `revision_id`, and leave this one.
    preparing: str | None = None
    preparing_since: datetime | None = None
    #: The preparation has succeeded, and admission may know the next generation: there is no way back.
    is_sealed: bool = False
    #: Of what a published version was made from; see `fingerprint`.
    origin: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """A function with its `$LATEST`. `uid` is never reused: delete and re-create share nothing."""

    uid: str
    account: str
    region: str
    name: str
    created_at: datetime
    #: What the API shows; while an update is under way, the new release.
    head: FunctionVersion
    #: What invocations of `$LATEST` run; None until a release has become Active.
    live: Release | None = None
    generation: int = 1
    reserved_concurrency: int | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    #: The highest version number ever given out.
    last_version: int = 0

    def arn(self, qualifier: str | None = None) -> str:
        """Return the function's ARN, qualified if asked for."""
        return function_arn(self.account, self.region, self.name, qualifier)


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionHead:
    """What admission must know about a function at any moment."""

    uid: str
    account: str
    region: str
    generation: int
    reserved_concurrency: int | None


def head_of(function: Function) -> FunctionHead:
    """Return what admission must know of this function."""
    return FunctionHead(
        uid=function.uid,
        account=function.account,
        region=function.region,
        generation=function.generation,
        reserved_concurrency=function.reserved_concurrency,
    )


def version_number(version: FunctionVersion) -> int:
    """Return the version's place in order: its number, and 0 for `$LATEST`."""
    return 0 if version.version == LATEST else int(version.version)


def new_function(  # one flat value, named at its only caller
    *,
    uid: str,
    account: str,
    region: str,
    name: str,
    release: Release,
    tags: Mapping[str, str],
    stamp: Stamp,
) -> Function:
    """Return a function that is Pending until its release is prepared."""
    head = _pending(FunctionVersion(
        function_uid=uid, version=LATEST, release=release, revision_id=stamp.revision_id, modified_at=stamp.at
    ), stamp)  # fmt: skip
    return Function(uid=uid, account=account, region=region, name=name, created_at=stamp.at, head=head, tags=dict(tags))


def check_revision(version: FunctionVersion, expected: str | None) -> None:
    """Raise PreconditionFailedError when the caller's RevisionId is not the version's."""
    if expected is not None and expected != version.revision_id:
        raise errors.stale_revision()


def check_settled(function: Function) -> None:
    """Raise ResourceConflictError while the function is being created or updated."""
    if function.head.state is State.PENDING:
        raise errors.wrong_state(State.PENDING)
    if function.head.update_status is UpdateStatus.IN_PROGRESS:
        raise errors.update_in_progress(function.arn())


def begin_update(function: Function, release: Release, stamp: Stamp) -> Function:
    """Show `release` as InProgress; what is live stays live. Raises ResourceConflictError unless settled."""
    check_settled(function)
    head = replace(
        function.head,
        release=release,
        revision_id=stamp.revision_id,
        modified_at=stamp.at,
        update_status=UpdateStatus.IN_PROGRESS,
        update_reason=None,
        preparing=stamp.revision_id,
        preparing_since=stamp.at,
    )
    return replace(function, head=head)


def seal(function: Function, found: FoundImage | None, stamp: Stamp) -> Function:
    """Record that the head's preparation succeeded, and with which image, before anybody else hears of it.

    A second answer to the same preparation may have found another image under the same tag: it comes too late.
    Raises ValueError when the image is left unknown.
    """
    release = pinned(function.head.release, found)
    return replace(
        function, head=replace(function.head, release=release, is_sealed=True, revision_id=stamp.revision_id)
    )


def awaits_pin_of(version: FunctionVersion, head: FunctionVersion) -> bool:
    """Tell whether a published version is a copy of this head, whose preparation says which image both have."""
    if version.preparing is None or head.preparing is None or not version.release.needs_pinning:
        return False
    return version.origin == fingerprint(unpinned(head.release))


def pin_copy(version: FunctionVersion, head: FunctionVersion, stamp: Stamp) -> FunctionVersion:
    """Give a version that `awaits_pin_of` this head the head's image. It still awaits its own preparation."""
    image = head.release.code
    found = FoundImage(uri=image.resolved_uri, size_bytes=image.size_bytes) if isinstance(image, Image) else None
    return replace(
        version,
        release=pinned(version.release, found),
        origin=fingerprint(head.release),
        revision_id=stamp.revision_id,
    )


def finish_head(function: Function, failure: PreparationFailure | None, stamp: Stamp) -> Function:
    """Return the function after the preparation of its head.

    Success makes the head live, in the next generation if it was an update. Failure leaves live what was.
    """
    created = function.head.state is State.PENDING
    head = _finished(function.head, failure, stamp)
    if failure is not None:
        return replace(function, head=head)
    generation = function.generation if created else function.generation + 1
    return replace(function, head=head, live=head.release, generation=generation)


def finish_version(
    version: FunctionVersion, failure: PreparationFailure | None, stamp: Stamp, found: FoundImage | None = None
) -> FunctionVersion:
    """Return a published version after its preparation; raises ValueError when its image is left unknown."""
    if failure is None:
        version = replace(version, release=pinned(version.release, found))
    return _finished(version, failure, stamp)


def publish(function: Function, description: str | None, stamp: Stamp) -> tuple[Function, FunctionVersion]:
    """Freeze the head as the next version number; Active at once if the head is what is live, else Pending."""
    number = function.last_version + 1
    head = function.head
    settings = head.release.settings
    frozen = head.release
    if description is not None:
        frozen = replace(frozen, settings=replace(settings, description=description))
    version = FunctionVersion(
        function_uid=function.uid,
        version=str(number),
        release=frozen,
        revision_id=stamp.revision_id,
        modified_at=head.modified_at,
        origin=fingerprint(head.release),
    )
    is_prepared = head.state is State.ACTIVE and head.preparing is None and function.live == head.release
    if is_prepared:
        version = replace(version, state=State.ACTIVE, update_status=UpdateStatus.SUCCESSFUL)
    else:
        version = _pending(version, stamp)
    return replace(function, last_version=number), version


def launch_of(function: Function, version: FunctionVersion | None = None) -> LaunchSpec:
    """Return how to launch what invocations run now: `$LATEST`'s live release, or a published version."""
    if version is not None:
        return _launch(function, version.release, version.version, function.generation)
    return _launch(function, function.live or function.head.release, LATEST, function.generation)


def next_launch(function: Function) -> LaunchSpec:
    """Return how the head would be launched if its preparation succeeded."""
    return launch_of(finish_head(function, None, Stamp(at=function.head.modified_at, revision_id="")))


def _launch(function: Function, release: Release, version: str, generation: int) -> LaunchSpec:
    settings, code = release.settings, release.code
    config = settings.image_config or ImageConfig()
    key = f"{function.uid}:{version}"
    return LaunchSpec(
        version_key=f"{key}:{generation}" if version == LATEST else key,
        function_uid=function.uid,
        generation=generation,
        account=function.account,
        region=function.region,
        function_name=function.name,
        version=version,
        runtime=settings.runtime,
        handler=settings.handler,
        code_sha256=code.sha256 if isinstance(code, Package) else "",
        architecture=settings.architecture,
        memory_mb=settings.memory_mb,
        timeout_s=settings.timeout_s,
        ephemeral_storage_mb=settings.ephemeral_storage_mb,
        environment=dict(settings.environment or {}),
        log_group=settings.log_group or f"/aws/lambda/{function.name}",
        layers=[layer.sha256 for layer in settings.layers],
        image_uri=(code.resolved_uri or code.uri) if isinstance(code, Image) else "",
        image_manifest=code.manifest_sha256 if isinstance(code, Image) else "",
        entry_point=list(config.entry_point),
        command=list(config.command),
        working_directory=config.working_directory,
    )


def _pending(version: FunctionVersion, stamp: Stamp) -> FunctionVersion:
    return replace(
        version,
        state=State.PENDING,
        state_reason=PreparationFailure(reason_code=CREATING_CODE, reason=CREATING),
        preparing=stamp.revision_id,
        preparing_since=stamp.at,
    )


def _finished(version: FunctionVersion, failure: PreparationFailure | None, stamp: Stamp) -> FunctionVersion:
    version = replace(version, revision_id=stamp.revision_id, preparing=None, preparing_since=None, is_sealed=False)
    if failure is None:
        return replace(
            version,
            state=State.ACTIVE,
            state_reason=None,
            update_status=UpdateStatus.SUCCESSFUL,
            update_reason=None,
        )
    was_running = version.state is State.ACTIVE
    return replace(
        version,
        state=State.ACTIVE if was_running else State.FAILED,
        state_reason=None if was_running else failure,
        update_status=UpdateStatus.FAILED,
        update_reason=failure,
    )
