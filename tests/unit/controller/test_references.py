"""Which blobs the collection must leave alone."""

from __future__ import annotations

import pytest

from contract.blobs.memory import MemoryBlobStore
from contract.images import ImageLayer, ImageManifest
from controller.background.references import BlobReferences


def manifest(letter: str) -> ImageManifest:
    layer = ImageLayer(blob=letter * 64, diff_id=letter * 64, size_bytes=1)
    return ImageManifest(config="0" * 63 + letter, layers=(layer,), architecture="x86_64", total_bytes=1)


class Names:
    """Functions, layers and pushed images, as far as they name blobs; tells in which order it was asked."""

    def __init__(self) -> None:
        self.functions, self.layers = {"1" * 64}, {"2" * 64}
        self.used_images: set[str] = set()
        self.pushed_images: set[str] = set()
        self.asked: list[str] = []

    async def referenced_blobs(self) -> set[str]:
        self.asked.append("functions")
        return self.functions | self.used_images

    async def referenced_images(self) -> set[str]:
        return set(self.used_images)

    async def manifests(self) -> set[str]:
        self.asked.append("images")
        return set(self.pushed_images)


class Layers:
    def __init__(self, names: Names) -> None:
        self._names = names

    async def referenced_blobs(self) -> set[str]:
        self._names.asked.append("layers")
        return set(self._names.layers)


def references(names: Names, blobs: MemoryBlobStore) -> BlobReferences:
    return BlobReferences(functions=names, layers=Layers(names), images=names, blobs=blobs)


async def test_code_layers_and_everything_of_used_and_of_pushed_images_is_needed() -> None:
    names, blobs = Names(), MemoryBlobStore()
    names.used_images = {await blobs.put(manifest("a").to_json())}
    names.pushed_images = {await blobs.put(manifest("b").to_json())}

    needed = await references(names, blobs).referenced_blobs()

    assert (
        needed
        == {"1" * 64, "2" * 64} | names.used_images | names.pushed_images | manifest("a").blobs | manifest("b").blobs
    )


async def test_functions_are_looked_at_last() -> None:
    names = Names()
    await references(names, MemoryBlobStore()).referenced_blobs()
    assert names.asked[-1] == "functions"


async def test_a_description_that_is_gone_hides_no_other() -> None:
    names, blobs = Names(), MemoryBlobStore()
    kept = await blobs.put(manifest("a").to_json())
    names.pushed_images = {"f" * 64, kept}

    assert manifest("a").blobs | {"f" * 64, kept} <= await references(names, blobs).referenced_blobs()


async def test_a_description_that_can_t_be_read_is_an_error() -> None:
    names, blobs = Names(), MemoryBlobStore()
    names.pushed_images = {await blobs.put(b'{"version": 99}')}

    with pytest.raises(ValueError, match="no blob may be removed"):
        await references(names, blobs).referenced_blobs()
