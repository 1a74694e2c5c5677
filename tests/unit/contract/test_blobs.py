from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from contract.blobs.directory import DirectoryBlobStore
from contract.blobs.memory import MemoryBlobStore
from contract.blobs.open import open_blob_store
from contract.blobs.store import BlobStore
from tests.suites.blob_store import BlobStoreSuite


class TestMemoryBlobStore(BlobStoreSuite):
    @pytest.fixture
    def store(self) -> BlobStore:
        return MemoryBlobStore()

    async def test_a_blob_that_is_put_again_is_young_again(self) -> None:
        now = [0.0]
        store = MemoryBlobStore(lambda: now[0])
        sha256 = await store.put(b"again")
        now[0] = 100.0
        await store.put(b"again")
        assert not await store.delete_if_older(sha256, 50)
        now[0] = 200.0
        assert await store.delete_if_older(sha256, 50)


class TestDirectoryBlobStore(BlobStoreSuite):
    @pytest.fixture
    def store(self, tmp_path: Path) -> BlobStore:
        return DirectoryBlobStore(tmp_path / "blobs")

    async def test_a_damaged_blob_is_not_copied(self, tmp_path: Path) -> None:
        store = DirectoryBlobStore(tmp_path / "blobs")
        sha256 = await store.put(b"sound")
        (tmp_path / "blobs" / sha256[:2] / sha256[2:4] / sha256).write_bytes(b"wrong")
        with pytest.raises(OSError, match="is damaged"):
            await store.copy_to(sha256, tmp_path / "copy")
        assert not (tmp_path / "copy").exists()

    async def test_a_blob_that_is_put_again_is_young_again(self, tmp_path: Path) -> None:
        store = DirectoryBlobStore(tmp_path / "blobs")
        sha256 = await store.put(b"again")
        path = tmp_path / "blobs" / sha256[:2] / sha256[2:4] / sha256
        os.utime(path, (time.time() - 100,) * 2)
        await store.put(b"again")
        assert not await store.delete_if_older(sha256, 50)
        os.utime(path, (time.time() - 100,) * 2)
        assert await store.delete_if_older(sha256, 50)

    async def test_listing_removes_what_uploads_of_dead_processes_left(self, tmp_path: Path) -> None:
        store = DirectoryBlobStore(tmp_path / "blobs")
        await store.put(b"x")
        old, new = tmp_path / "blobs/tmp/old", tmp_path / "blobs/tmp/new"
        old.write_bytes(b"")
        new.write_bytes(b"")
        os.utime(old, (time.time() - 7200,) * 2)
        assert len([item async for item in store.list()]) == 1
        assert new.exists()
        assert not old.exists()

    async def test_files_of_others_are_no_blobs(self, tmp_path: Path) -> None:
        store = DirectoryBlobStore(tmp_path / "blobs")
        sha256 = await store.put(b"ours")
        for name in (".nfs0001", "core", sha256[:63]):
            (tmp_path / "blobs" / sha256[:2] / sha256[2:4] / name).write_bytes(b"theirs")
        assert [found async for found, _ in store.list()] == [sha256]

    async def test_a_put_leaves_no_temporary_file(self, tmp_path: Path) -> None:
        store = DirectoryBlobStore(tmp_path / "blobs")
        await store.put(b"x")
        assert list((tmp_path / "blobs/tmp").iterdir()) == []


async def test_a_file_url_opens_a_directory(tmp_path: Path) -> None:
    store = open_blob_store(f"file://{tmp_path}/with%20space")
    sha256 = await store.put(b"x")
    assert (tmp_path / "with space" / sha256[:2] / sha256[2:4] / sha256).exists()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/plain",
        "file://",
        "file:///",
        "file://host/x",
        "file:///x?y=1",
        "http://host/bucket",
        "s3://",
        "s3:///prefix",
        "s3://UPPER",
        "s3://bucket?endpoint=",
        "s3://bucket?endpoint=minio:9000",
        "s3://bucket?endpoint=http://key:secret@minio:9000",
        "s3://bucket?endpoint=http://a&endpoint=http://b",
        "s3://bucket?secret=x",
        "s3://bucket/prefix#x",
    ],
)
def test_other_urls_are_refused_with_the_settings_name(url: str) -> None:
    with pytest.raises(ValueError, match="LAMBDOCK_BLOB_URL"):
        open_blob_store(url)


@pytest.mark.parametrize(
    "url",
    [
        "s3://key:hidden@bucket/prefix",
        "s3://key:hid/hidden@bucket",
        "s3://bucket?secret_key=hidden",
        "s3://bucket?endpoint=http://key:hidden@host",
        "s3://bucket?endpoint=http%3A%2F%2Fkey%3Ahidden%40host",
        "http://key:hidden@host/bucket",
    ],
)
def test_a_refused_url_is_told_without_the_secret_in_it(url: str) -> None:
    with pytest.raises(ValueError, match="LAMBDOCK_BLOB_URL") as refused:
        open_blob_store(url)
    assert "hid" not in str(refused.value)
