"""What pushed images need from the outside: a record of who pushed what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from contract.images import pushed_uri


@dataclass(frozen=True, slots=True, kw_only=True)
class PushedImage:
    """An image that an account has pushed, under one name. What it consists of says the manifest, a blob."""

    account: str
    name: str
    #: Hex sha256 of the manifest's blob.
    manifest_sha256: str
    #: Hex sha256 of the image's configuration: what engines call its id.
    config_sha256: str
    #: In Lambda's words.
    architecture: str
    #: Of all layers, unpacked.
    size_bytes: int
    pushed_at: datetime

    @property
    def uri(self) -> str:
        """The ImageUri by which functions name it."""
        return pushed_uri(self.name, self.manifest_sha256)


class ImageStore(Protocol):
    """Records of pushed images, durable on return. Accounts share none; regions share all of an account's."""

    async def add(self, image: PushedImage) -> None:
        """Record an image, with all its blobs stored. Pushing it again under this name changes nothing but the time."""
        ...

    async def find(self, account: str, name: str, manifest_sha256: str) -> PushedImage | None:
        """Return the account's image of this name and digest."""
        ...

    async def page(self, account: str, *, after: tuple[str, str], limit: int) -> Sequence[PushedImage]:
        """Return up to `limit` images after (name, manifest digest), by name and digest; ("", "") for the first."""
        ...

    async def remove(self, account: str, name: str, manifest_sha256: str) -> bool:
        """Forget an image. Returns False when it is not there. Its blobs stay, for the collector and for functions."""
        ...

    async def manifests(self) -> set[str]:
        """Return the manifest digests of all images of all accounts, for the collector."""
        ...
