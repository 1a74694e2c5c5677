"""How the layers of a function are resolved, and what publishing leaves behind."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence

import pytest

from contract.blobs.memory import MemoryBlobStore
from contract.packages import MAX_UNZIPPED_BYTES
from controller.domain import errors
from controller.domain.layer import LayerName, LayerVersion
from controller.domain.release import Package
from controller.packages.intake import PackageIntake
from controller.packages.ports import UploadedZip
from controller.resources.layers.ports import ANY
from controller.resources.layers.service import LayerService, NewLayerVersion
from controller.storage.memory_layers import MemoryLayerStore
from tests.fakes.controller_ports import TickingStamps

ACCOUNT, REGION = "000000000000", "us-east-1"
ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:layer"


def zip_of(text: str = "x = 1\n") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("python/dep.py", text)
    return buffer.getvalue()


class World:
    def __init__(self) -> None:
        self.store, self.blobs = MemoryLayerStore(), MemoryBlobStore()
        self.service = LayerService(store=self.store, packages=PackageIntake(self.blobs), stamps=TickingStamps())

    async def publish(self, name: str = "one", data: bytes | None = None) -> LayerVersion:
        layer = LayerName(account=ACCOUNT, region=REGION, name=name)
        new = NewLayerVersion(layer=layer, source=UploadedZip(data=zip_of() if data is None else data))
        return await self.service.publish(ACCOUNT, REGION, new)

    async def add(self, name: str, unzipped_bytes: int) -> None:
        package = Package(sha256=name[0] * 64, size_bytes=10, unzipped_bytes=unzipped_bytes)
        version = await self.publish(name)
        await self.store.delete(ACCOUNT, REGION, name, version.number)
        await self.store.add(
            LayerVersion(account=ACCOUNT, region=REGION, name=name, package=package, created_at=version.created_at)
        )

    async def resolve(self, *arns: str) -> Sequence[tuple[str, int]]:
        found = await self.service.resolve(ACCOUNT, REGION, arns)
        return [(use.arn, use.size_bytes) for use in found]


async def refusal(world: World, *arns: str) -> errors.LambdaError:
    with pytest.raises(errors.LambdaError) as caught:
        await world.resolve(*arns)
    return caught.value


async def test_layers_are_resolved_in_the_order_of_the_function_with_their_digests() -> None:
    world = World()
    for name in ("a", "b", "c"):
        await world.publish(name, zip_of(name))

    found = await world.service.resolve(ACCOUNT, REGION, [f"{ARN}:{name}:1" for name in ("c", "a", "b")])

    assert [use.arn.split(":")[6] for use in found] == ["c", "a", "b"]
    stored = await world.store.get(ACCOUNT, REGION, "c", 1)
    assert stored is not None
    assert (found[0].sha256, found[0].size_bytes) == (stored.package.sha256, stored.package.size_bytes)
    assert found[0].unzipped_bytes == 1
    assert await world.service.resolve(ACCOUNT, REGION, []) == ()


async def test_five_layers_are_taken_and_six_refused() -> None:
    world = World()
    arns = [f"{ARN}:l{number}:1" for number in range(6)]
    for number in range(6):
        await world.publish(f"l{number}")

    assert len(await world.resolve(*arns[:5])) == 5
    error = await refusal(world, *arns)
    assert (error.code, str(error)) == ("InvalidParameterValueException", "Cannot reference more than 5 layers.")


async def test_two_versions_of_one_layer_are_refused_however_they_are_written() -> None:
    world = World()
    for _ in range(2):
        await world.publish()

    error = await refusal(world, f"{ARN}:one:1", f"{ARN}:one:2")
    assert str(error) == (
        "Two different versions of the same layer are not allowed to be referenced in the same function."
        f" {ARN}:one:1 and {ARN}:one:2 are versions of the same layer."
    )
    assert "versions of the same layer" in str(await refusal(world, f"{ARN}:one:1", f"{ARN}:one:01"))


@pytest.mark.parametrize(
    ("arn", "code", "text"),
    [
        (f"{ARN}:one:2", "InvalidParameterValueException", f"Layer version {ARN}:one:2 does not exist."),
        (f"{ARN}:other:1", "InvalidParameterValueException", f"Layer version {ARN}:other:1 does not exist."),
        (f"{ARN}:one:0", "InvalidParameterValueException", f"Layer version {ARN}:one:0 does not exist."),
        (f"{ARN}:one:{'9' * 40}", "InvalidParameterValueException", "does not exist."),
        (
            f"arn:aws:lambda:eu-west-1:{ACCOUNT}:layer:one:1",
            "InvalidParameterValueException",
            f"Layers are not in the same region as the function. Layers are expected to be in region {REGION}.",
        ),
        (
            f"arn:aws:lambda:{REGION}:111111111111:layer:one:1",
            "AccessDeniedException",
            f"User: arn:aws:iam::{ACCOUNT}:root is not authorized to perform: lambda:GetLayerVersion on resource:"
            f" arn:aws:lambda:{REGION}:111111111111:layer:one:1 because no resource-based policy allows the"
            " lambda:GetLayerVersion action",
        ),
        ("arn:aws:lambda:::awslayer:AmazonLinux1703", "AccessDeniedException", "no resource-based policy"),
        (f"{ARN}:one", "ValidationException", f"Value '[{ARN}:one]' at 'layers' failed to satisfy constraint"),
        ("one", "ValidationException", "Value '[one]' at 'layers' failed to satisfy constraint: Member must satisfy"),
        (f"{ARN}:one:\u0661", "ValidationException", "at 'layers' failed to satisfy constraint"),
        ("", "ValidationException", "Value '[]' at 'layers' failed to satisfy constraint"),
    ],
)
async def test_layers_that_cannot_be_used_are_refused_as_on_aws(arn: str, code: str, text: str) -> None:
    world = World()
    await world.publish()

    error = await refusal(world, arn)

    assert error.code == code
    assert text in str(error)


async def test_layers_over_250_mb_together_are_refused() -> None:
    world = World()
    half = MAX_UNZIPPED_BYTES // 2
    for name, size in (("a", half), ("b", half), ("c", 1)):
        await world.add(name, size)

    assert len(await world.resolve(f"{ARN}:a:2", f"{ARN}:b:2")) == 2
    error = await refusal(world, f"{ARN}:a:2", f"{ARN}:b:2", f"{ARN}:c:2")
    assert str(error) == "Layers consume more than the available size of 262144000 bytes"


@pytest.mark.parametrize("data", [b"no zip", zip_of()[:-30], b"PK\x05\x06" + bytes(18)])
async def test_refused_contents_leave_neither_a_blob_nor_a_number(data: bytes) -> None:
    world = World()

    with pytest.raises(errors.InvalidParameterValueError, match="Could not unzip uploaded file"):
        await world.publish(data=data)

    assert [one async for one in world.blobs.list()] == []
    assert (await world.publish()).number == 1


async def test_nothing_of_another_account_or_region_can_be_named() -> None:
    world = World()
    await world.publish()
    layer = LayerName(account=ACCOUNT, region=REGION, name="one")
    new = NewLayerVersion(layer=layer, source=UploadedZip(data=zip_of()))

    for account, region, error in (
        ("111111111111", REGION, errors.AccessDeniedError),
        (ACCOUNT, "eu-west-1", errors.ResourceNotFoundError),
    ):
        with pytest.raises(error):
            await world.service.get(account, region, layer, 1)
        with pytest.raises(error):
            await world.service.get_by_arn(account, region, f"{ARN}:one:1")
        with pytest.raises(error):
            await world.service.delete(account, region, layer, 1)
        with pytest.raises(error):
            await world.service.list_versions(account, region, layer, compatible=ANY, before=None, limit=None)
        with pytest.raises(error):
            await world.service.publish(account, region, new)

    assert (await world.service.get(ACCOUNT, REGION, layer, 1)).number == 1
