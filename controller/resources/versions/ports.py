"""What published versions need from the outside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from controller.domain.function import FunctionVersion


class VersionStore(Protocol):
    """Published versions; `FunctionStore.create` and `replace` add them. Each method is one transaction."""

    async def get_version(self, function_uid: str, version: str) -> FunctionVersion | None:
        """Return the published version with this decimal number."""
        ...

    async def newest_version(self, function_uid: str) -> FunctionVersion | None:
        """Return the published version with the highest number that still exists."""
        ...

    async def page_versions(self, function_uid: str, *, after: int, limit: int) -> Sequence[FunctionVersion]:
        """Return up to `limit` published versions whose numbers follow `after`, in order of number."""
        ...

    async def replace_version(self, version: FunctionVersion, expected_revision_id: str) -> bool:
        """Compare-and-set like `FunctionStore.replace`; False when the version is gone or has changed."""
        ...

    async def delete_version(self, function_uid: str, version: str) -> bool:
        """Remove one published version; its number is not given out again. False when it is not there."""
        ...
