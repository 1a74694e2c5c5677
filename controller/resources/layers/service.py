"""Publishes, reads and deletes versions of layers, and resolves those that functions name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from contract.packages import MAX_UNZIPPED_BYTES
from controller.domain import errors
from controller.domain.layer import (
    NUMBER_MAX,
    LayerName,
    LayerVersion,
    LayerVersionName,
    parse_layer_references,
    parse_layer_version_arn,
)
from controller.domain.release import LayerUse
from controller.domain.stamp import StampSource
from controller.domain.validation import LAYERS_MAX
from controller.packages.intake import PackageIntake
from controller.packages.ports import PackageSource
from controller.resources.layers.ports import Compatibility, LayerStore

#: Entries of one page at most, and where the caller does not say how many.
PAGE_MAX = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class NewLayerVersion:
    """What PublishLayerVersion asks for, already checked but for the contents."""

    layer: LayerName
    source: PackageSource
    description: str = ""
    license_info: str = ""
    compatible_runtimes: tuple[str, ...] = ()
    compatible_architectures: tuple[str, ...] = ()


class LayerService:
    """The operations on layers. Refuses with LambdaError; whatever else it raises is the platform's failure.

    Layers are their account's and region's alone: sharing them needs policies, which are not served yet.
    """

    def __init__(self, *, store: LayerStore, packages: PackageIntake, stamps: StampSource) -> None:
        self._store = store
        self._packages = packages
        self._stamps = stamps

    async def publish(self, account: str, region: str, new: NewLayerVersion) -> LayerVersion:
        """Store the contents as the layer's next version. What is refused leaves neither a blob nor a number."""
        _check_owner(new.layer, account, region, "PublishLayerVersion")
        package = await self._packages.take(new.source)
        return await self._store.add(
            LayerVersion(
                account=account,
                region=region,
                name=new.layer.name,
                package=package,
                created_at=self._stamps().at,
                description=new.description,
                license_info=new.license_info,
                compatible_runtimes=new.compatible_runtimes,
                compatible_architectures=new.compatible_architectures,
            )
        )

    async def get(self, account: str, region: str, layer: LayerName, number: int) -> LayerVersion:
        """Return one version. Raises ResourceNotFoundError."""
        _check_number(number)
        _check_owner(layer, account, region, "GetLayerVersion", number)
        version = await self._find(layer, number)
        if version is None:
            raise errors.ResourceNotFoundError(errors.NO_SUCH_RESOURCE)
        return version

    async def get_by_arn(self, account: str, region: str, arn: str) -> LayerVersion:
        """Return the version that an ARN names. Raises ResourceNotFoundError."""
        named = parse_layer_version_arn(arn)
        if named.layer is None:
            raise errors.layer_not_shared(account, "GetLayerVersion", arn)
        return await self.get(account, region, named.layer, named.number)

    async def list(
        self, account: str, region: str, *, compatible: Compatibility, after: str, limit: int | None
    ) -> Sequence[LayerVersion]:
        """Return one page of layers, each by its newest version that matches, and one more when others follow."""
        return await self._store.page(account, region, compatible=compatible, after=after, limit=page_size(limit) + 1)

    async def list_versions(  # one argument per origin
        self,
        account: str,
        region: str,
        layer: LayerName,
        *,
        compatible: Compatibility,
        before: int | None,
        limit: int | None,
    ) -> Sequence[LayerVersion]:
        """Return one page, newest first, and one more when others follow; of a layer that is not there, nothing."""
        _check_owner(layer, account, region, "ListLayerVersions")
        return await self._store.page_versions(
            account,
            region,
            layer.name,
            compatible=compatible,
            before=NUMBER_MAX if before is None else min(max(before, 0), NUMBER_MAX),
            limit=page_size(limit) + 1,
        )

    async def delete(self, account: str, region: str, layer: LayerName, number: int) -> None:
        """Delete a version; one that is not there is no error. Functions that use it keep what they have of it."""
        _check_number(number)
        _check_owner(layer, account, region, "DeleteLayerVersion", number)
        if number <= NUMBER_MAX:
            await self._store.delete(account, region, layer.name, number)

    async def resolve(self, account: str, region: str, arns: Sequence[str]) -> tuple[LayerUse, ...]:
        """Return what a function of `account` in `region` that names these versions gets, in their order.

        Raises ValidationFailedError, InvalidParameterValueError or AccessDeniedError as Lambda does.
        """
        named = parse_layer_references(arns)
        if len(named) > LAYERS_MAX:
            raise errors.InvalidParameterValueError(errors.TOO_MANY_LAYERS)
        uses: dict[LayerName, tuple[LayerVersionName, LayerUse]] = {}
        for one in named:
            layer, version = await self._usable(account, region, one)
            if layer in uses:
                raise errors.same_layer_twice(uses[layer][0].arn, one.arn)
            package = version.package
            uses[layer] = (
                one,
                LayerUse(
                    arn=version.arn,
                    sha256=package.sha256,
                    size_bytes=package.size_bytes,
                    unzipped_bytes=package.unzipped_bytes,
                ),
            )
        found = tuple(use for _, use in uses.values())
        if sum(use.unzipped_bytes for use in found) > MAX_UNZIPPED_BYTES:
            raise errors.InvalidParameterValueError(errors.LAYERS_TOO_LARGE)
        return found

    async def stored_bytes(self, account: str, region: str) -> int:
        """Return what the account's layers count towards its code in the region."""
        return await self._store.stored_bytes(account, region)

    async def referenced_blobs(self) -> set[str]:
        """Return the digests of all packages that a layer version has, for the collection."""
        return await self._store.referenced_blobs()

    async def _usable(self, account: str, region: str, named: LayerVersionName) -> tuple[LayerName, LayerVersion]:
        layer = named.layer
        if layer is None or layer.account != account:
            raise errors.layer_not_shared(account, "GetLayerVersion", named.arn)
        if layer.region != region:
            raise errors.layers_in_other_region(region)
        version = await self._find(layer, named.number)
        if version is None:
            raise errors.layer_version_missing(named.arn)
        return layer, version

    async def _find(self, layer: LayerName, number: int) -> LayerVersion | None:
        # A database would not even compare a larger number.
        if not 1 <= number <= NUMBER_MAX:
            return None
        return await self._store.get(layer.account, layer.region, layer.name, number)


def page_size(limit: int | None) -> int:
    """Return how many entries a page has that may have `limit`."""
    return PAGE_MAX if limit is None else min(limit, PAGE_MAX)


def _check_number(number: int) -> None:
    if number < 1:
        raise errors.InvalidParameterValueError(errors.LAYER_NUMBER_TOO_SMALL)


def _check_owner(layer: LayerName, account: str, region: str, action: str, number: int | None = None) -> None:
    """Raise AccessDeniedError for another account's layer, ResourceNotFoundError for one of another region."""
    if layer.account != account:
        arn = layer.arn if number is None else f"{layer.arn}:{number}"
        raise errors.layer_not_shared(account, action, arn)
    if layer.region != region:
        raise errors.layer_elsewhere(layer.region, region)
