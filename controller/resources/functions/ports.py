"""What functions need from the outside: a store, admission's directory, and somebody who prepares code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from controller.domain.function import Function, FunctionHead, FunctionVersion
from controller.domain.release import LayerUse
from controller.images.ports import PushedImage


class FunctionExistsError(Exception):
    """The account has a function of this name in this region already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unprepared:
    """A release that awaits preparation; `revision_id` names it to `preparation_target` and `finish_preparation`."""

    function_uid: str
    version: str
    revision_id: str
    since: datetime


class FunctionStore(Protocol):
    """Functions with their `$LATEST`, durable on return. Every method is one transaction: all of it or nothing.

    Nobody's reads block on writes for long; failures of the database come out as its own exceptions.
    """

    async def create(self, function: Function, version: FunctionVersion | None = None) -> None:
        """Store a new function, and the first published version with it. Raises FunctionExistsError."""
        ...

    async def get(self, account: str, region: str, name: str) -> Function | None:
        """Return the function of that name, as of now."""
        ...

    async def get_by_uid(self, uid: str) -> Function | None:
        """Return the function with this internal id, as of now."""
        ...

    async def replace(
        self, function: Function, expected_revision_id: str, version: FunctionVersion | None = None
    ) -> bool:
        """Store the function (not its reservation, which `ReservationStore` owns) and a newly published version.

        Compare-and-set: returns False, and changes nothing, unless the stored head still has
        `expected_revision_id`. The new head's revision id must differ from it.
        """
        ...

    async def delete(self, uid: str) -> bool:
        """Remove the function and all its versions. Returns False when it is not there."""
        ...

    async def page(self, account: str, region: str, *, after: str, limit: int) -> Sequence[Function]:
        """Return up to `limit` functions whose names follow `after` ("" for all), in order of name."""
        ...

    async def page_with_versions(
        self, account: str, region: str, *, after: tuple[str, int], limit: int
    ) -> Sequence[tuple[Function, FunctionVersion]]:
        """Return up to `limit` versions after (name, number), by name and number; `$LATEST` counts as number 0."""
        ...

    async def page_by_uid(self, *, after: str, limit: int) -> Sequence[Function]:
        """Return up to `limit` functions of all accounts whose uids follow `after` ("" for all), in order of uid."""
        ...

    async def unprepared(self) -> Sequence[Unprepared]:
        """Return every release, of heads and of published versions, that awaits preparation, oldest first."""
        ...

    async def referenced_blobs(self) -> set[str]:
        """Return the digests of all blobs that a head, a live release or a published version names.

        These are packages, layers and the descriptions of pushed images; what the latter list in their turn is not
        among them.
        """
        ...

    async def referenced_images(self) -> set[str]:
        """Return those of the digests of `referenced_blobs` that are descriptions of pushed images."""
        ...


class LayerResolver(Protocol):
    """Finds the layer versions that a function names."""

    async def resolve(self, account: str, region: str, arns: Sequence[str]) -> tuple[LayerUse, ...]:
        """Return what a function of `account` in `region` that names these versions gets, in their order.

        Raises LambdaError, as Lambda words it, for what a function may not use.
        """
        ...


class PushedImages(Protocol):
    """Images that accounts have pushed to the installation itself."""

    async def find(self, account: str, uri: str) -> PushedImage | None:
        """Return the account's image of this URI; None when it has none."""
        ...


class FunctionDirectory(Protocol):
    """What admission knows about functions, kept outside SQL so that invocations need no database."""

    async def publish(self, head: FunctionHead) -> None:
        """Make `head` known to admission before anybody is told of the change. Idempotent.

        The generation held never falls: publishing an older one keeps the newer, and takes the limit. From the
        return on, nothing older than the generation held is dispatched. Raises if that can't be promised.
        """
        ...

    async def retire(self, head: FunctionHead) -> None:
        """Make admission refuse the function from now on, for good. Idempotent; no error for an unknown one."""
        ...

    async def retire_version(self, function_uid: str, version: str) -> None:
        """Make admission refuse a published version from now on. Idempotent; no error for an unknown one."""
        ...


class PreparationQueue(Protocol):
    """Hands releases to whoever prepares them, at least once."""

    async def enqueue(self, function_uid: str, version: str, revision_id: str) -> None:
        """Ask for a preparation. Called after the commit; what is lost here, the sweeper asks for again."""
        ...
