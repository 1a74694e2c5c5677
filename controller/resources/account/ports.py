"""What the account's settings need from the outside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountUsage:
    """What an account uses in a region."""

    #: Bytes of all packages, those of every published version and of every layer version counted too.
    code_bytes: int
    function_count: int
    reserved_concurrency: int


class UsageStore(Protocol):
    """Sums over an account's functions."""

    async def usage(self, account: str, region: str) -> AccountUsage:
        """Return the account's usage as of now."""
        ...


class LayerUsage(Protocol):
    """What layers add to an account's code."""

    async def stored_bytes(self, account: str, region: str) -> int:
        """Return the size of all packages of the account's layer versions, as of now."""
        ...
