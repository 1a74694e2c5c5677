"""What layers need from the outside: a store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from controller.domain.layer import LayerVersion


@dataclass(frozen=True, slots=True, kw_only=True)
class Compatibility:
    """Which versions a list is about: those that name this runtime and this architecture as compatible.

    None asks for nothing. A version that names no runtimes matches no runtime, as on AWS.
    """

    runtime: str | None = None
    architecture: str | None = None


ANY = Compatibility()


class LayerStore(Protocol):
    """Versions of layers, durable on return. Every method is one transaction: all of it or nothing.

    A layer is nothing but its versions, and the highest number that was ever given out to one of them.
    """

    async def add(self, version: LayerVersion) -> LayerVersion:
        """Store a version under its layer's next number, and return it with that number.

        Numbers begin at 1. None is given out twice: not to versions that are added at the same time, not after a
        version's deletion, and not after the deletion of all of them.
        """
        ...

    async def get(self, account: str, region: str, name: str, number: int) -> LayerVersion | None:
        """Return one version, as of now."""
        ...

    async def page(
        self, account: str, region: str, *, compatible: Compatibility, after: str, limit: int
    ) -> Sequence[LayerVersion]:
        """Return, of up to `limit` layers whose names follow `after` ("" for all), the newest version that matches.

        In order of name. Layers without such a version are left out.
        """
        ...

    async def page_versions(
        self, account: str, region: str, name: str, *, compatible: Compatibility, before: int, limit: int
    ) -> Sequence[LayerVersion]:
        """Return up to `limit` versions that match and have numbers below `before`, newest first."""
        ...

    async def delete(self, account: str, region: str, name: str, number: int) -> bool:
        """Remove one version. Returns False when it is not there."""
        ...

    async def stored_bytes(self, account: str, region: str) -> int:
        """Return the size of all packages of the account's versions in the region."""
        ...

    async def referenced_blobs(self) -> set[str]:
        """Return the digests of all packages that a version of any account has."""
        ...
