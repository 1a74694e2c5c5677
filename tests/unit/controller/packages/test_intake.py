"""What becomes of a package on its way in."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from contract.blobs.memory import MemoryBlobStore
from controller.domain.errors import InvalidParameterValueError, SerializationError
from controller.domain.release import Package
from controller.packages import intake
from controller.packages.intake import PackageIntake
from controller.packages.ports import ObjectTooLargeError, S3Object, UploadedZip
from controller.packages.scratch import STALE_S
from controller.packages.wire import package_source
from tests.fakes.api_server import zip_of

WANTED = S3Object(bucket="bucket", key="k")


class Bucket:
    """An ObjectSource with one object, which may be more than it says."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.limits: list[int] = []
        self.failure: Exception | None = None

    async def fetch(self, wanted: S3Object, path: Path, *, limit_bytes: int) -> None:
        self.limits.append(limit_bytes)
        path.write_bytes(self.body[:limit_bytes])
        if self.failure is not None:
            raise self.failure
        if len(self.body) > limit_bytes:
            raise ObjectTooLargeError


def package(data: bytes, unzipped_bytes: int) -> Package:
    return Package(sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data), unzipped_bytes=unzipped_bytes)


async def test_both_ways_in_lead_to_the_same_blob(tmp_path: Path) -> None:
    blobs, data = MemoryBlobStore(), zip_of("x = 1\n")

    uploaded = await PackageIntake(blobs).take(UploadedZip(data=data))
    fetched = await PackageIntake(blobs, objects=Bucket(data), scratch=tmp_path).take(WANTED)

    assert uploaded == fetched == package(data, 6)
    assert await blobs.get(uploaded.sha256) == data
    assert list(tmp_path.iterdir()) == []


async def test_what_is_opened_is_stored_only_when_asked() -> None:
    blobs, data = MemoryBlobStore(), zip_of()
    async with PackageIntake(blobs).open(UploadedZip(data=data)) as incoming:
        assert not await blobs.exists(incoming.package.sha256)
        await incoming.store()
    assert await blobs.exists(incoming.package.sha256)


async def test_an_upload_may_be_50_mb_and_an_object_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = zip_of("x" * 1000)
    monkeypatch.setattr(intake, "ZIPPED_MAX_BYTES", len(data) - 1)
    blobs = MemoryBlobStore()

    with pytest.raises(InvalidParameterValueError, match=r"^Zipped size must be smaller than 52428800 bytes$"):
        await PackageIntake(blobs).take(UploadedZip(data=data))
    assert (await PackageIntake(blobs, objects=Bucket(data), scratch=tmp_path).take(WANTED)).size_bytes == len(data)


async def test_an_object_larger_than_any_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "MAX_UNZIPPED_BYTES", 10)
    bucket, blobs = Bucket(zip_of()), MemoryBlobStore()

    with pytest.raises(InvalidParameterValueError, match=r"^Unzipped size must be smaller than 262144000 bytes$"):
        await PackageIntake(blobs, objects=bucket, scratch=tmp_path).take(WANTED)

    assert bucket.limits == [10]
    assert list(tmp_path.iterdir()) == []
    assert [found async for found in blobs.list()] == []


@pytest.mark.parametrize("failure", [ConnectionError("away"), InvalidParameterValueError("NoSuchKey")])
async def test_half_an_object_is_removed(tmp_path: Path, failure: Exception) -> None:
    bucket = Bucket(zip_of())
    bucket.failure = failure

    with pytest.raises(type(failure)):
        await PackageIntake(MemoryBlobStore(), objects=bucket, scratch=tmp_path).take(WANTED)

    assert list(tmp_path.iterdir()) == []


async def test_what_a_crash_left_is_removed_and_what_is_on_its_way_stays(tmp_path: Path) -> None:
    left, on_its_way = tmp_path / "lambdock-package-left", tmp_path / "lambdock-package-on-its-way"
    of_others = tmp_path / "of-others"
    for path in (left, on_its_way, of_others):
        path.touch()
    for path in (left, of_others):
        os.utime(path, (time.time() - STALE_S - 1,) * 2)

    await PackageIntake(MemoryBlobStore(), objects=Bucket(zip_of()), scratch=tmp_path).take(WANTED)

    assert set(tmp_path.iterdir()) == {on_its_way, of_others}


async def test_without_an_endpoint_buckets_are_refused_naming_the_setting() -> None:
    with pytest.raises(InvalidParameterValueError, match="LAMBDOCK_S3_ENDPOINT"):
        await PackageIntake(MemoryBlobStore()).take(WANTED)


def test_a_version_is_part_of_what_is_wanted() -> None:
    members = {"S3Bucket": "bucket", "S3Key": "k", "S3ObjectVersion": "v"}
    assert package_source(members) == S3Object(bucket="bucket", key="k", version="v")


@pytest.mark.parametrize("text", ["ä", "abc", "a b="])
def test_what_is_no_base64_is_a_serialization_error(text: str) -> None:
    with pytest.raises(SerializationError, match="base64"):
        package_source({"ZipFile": text})
