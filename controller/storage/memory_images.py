"""Records of pushed images in one process's memory, for tests and for trying things out."""

from __future__ import annotations

from collections.abc import Sequence

from controller.images.ports import PushedImage

_Key = tuple[str, str, str]


class MemoryImageStore:
    """The ImageStore that forgets everything with its process. No method awaits, so each is atomic."""

    def __init__(self) -> None:
        self._images: dict[_Key, PushedImage] = {}

    async def add(self, image: PushedImage) -> None:
        """See ImageStore."""
        self._images[image.account, image.name, image.manifest_sha256] = image

    async def find(self, account: str, name: str, manifest_sha256: str) -> PushedImage | None:
        """See ImageStore."""
        return self._images.get((account, name, manifest_sha256))

    async def page(self, account: str, *, after: tuple[str, str], limit: int) -> Sequence[PushedImage]:
        """See ImageStore."""
        found = (key for key in self._images if key[0] == account and key[1:] > after)
        return [self._images[key] for key in sorted(found)[:limit]]

    async def remove(self, account: str, name: str, manifest_sha256: str) -> bool:
        """See ImageStore."""
        return self._images.pop((account, name, manifest_sha256), None) is not None

    async def manifests(self) -> set[str]:
        """See ImageStore."""
        return {image.manifest_sha256 for image in self._images.values()}
