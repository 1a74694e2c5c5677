"""Turns the code and the layers that a caller names into what a release freezes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from contract.images import parse_pushed_uri
from contract.packages import MAX_UNZIPPED_BYTES
from controller.domain import errors
from controller.domain.image_uri import is_image_reference
from controller.domain.release import Image, LayerUse, Package, Release
from controller.packages.intake import Incoming, PackageIntake
from controller.packages.ports import PackageSource
from controller.resources.functions.ports import LayerResolver, PushedImages


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSource:
    """A container image, as the caller names it."""

    uri: str


CodeSource = PackageSource | ImageSource


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedCode:
    """Code that has been checked. A package is not stored yet."""

    code: Package | Image
    incoming: Incoming | None = None

    async def store(self) -> None:
        """Make it durable; no row may name it before."""
        if self.incoming is not None:
            await self.incoming.store()


class CodeIntake:
    """Checks code and layers. Refuses with LambdaError, and stores nothing by itself."""

    def __init__(self, *, packages: PackageIntake, layers: LayerResolver, images: PushedImages) -> None:
        self._packages = packages
        self._layers = layers
        self._images = images

    async def layers(self, account: str, region: str, arns: Sequence[str]) -> tuple[LayerUse, ...]:
        """Return the layer versions that a function names."""
        return await self._layers.resolve(account, region, arns) if arns else ()

    @asynccontextmanager
    async def open(self, account: str, source: CodeSource) -> AsyncIterator[OpenedCode]:
        """Fetch and check the code that a caller names; it may be stored until the block is left."""
        if isinstance(source, ImageSource):
            yield OpenedCode(code=await self._image(account, source.uri))
            return
        async with self._packages.open(source) as incoming:
            yield OpenedCode(code=incoming.package, incoming=incoming)

    async def _image(self, account: str, uri: str) -> Image:
        try:
            manifest_sha256 = parse_pushed_uri(uri)
        except ValueError as error:
            raise errors.image_not_valid(uri) from error
        if manifest_sha256 is None:
            if not is_image_reference(uri):
                raise errors.image_not_valid(uri)
            return Image(uri=uri)
        pushed = await self._images.find(account, uri)
        if pushed is None:
            raise errors.image_missing(uri)
        # Named by what it consists of: there is nothing to look up.
        return Image(uri=uri, resolved_uri=uri, manifest_sha256=manifest_sha256, size_bytes=pushed.size_bytes)


def check_release(release: Release) -> None:
    """Raise InvalidParameterValueError for settings and code that do not go together."""
    settings, code = release.settings, release.code
    if isinstance(code, Image):
        if settings.runtime or settings.handler or settings.layers:
            raise errors.InvalidParameterValueError(errors.ZIP_SETTINGS_FOR_IMAGE)
        return
    if settings.image_config is not None:
        raise errors.InvalidParameterValueError(errors.IMAGE_CONFIG_FOR_ZIP)
    unzipped_bytes = code.unzipped_bytes + sum(layer.unzipped_bytes for layer in settings.layers)
    if settings.layers and unzipped_bytes > MAX_UNZIPPED_BYTES:
        raise errors.code_with_layers_too_large(unzipped_bytes)


def check_kind(before: Package | Image, source: CodeSource) -> None:
    """Raise InvalidParameterValueError for code of the other package type, which a function never changes to."""
    if isinstance(before, Image) and not isinstance(source, ImageSource):
        raise errors.InvalidParameterValueError(errors.IMAGE_URI_MISSING)
    if isinstance(before, Package) and isinstance(source, ImageSource):
        raise errors.InvalidParameterValueError(errors.IMAGE_URI_FOR_ZIP)
