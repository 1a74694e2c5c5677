"""What every blob store must do: subclass, and give it the fixture `store`."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest

from contract.blobs.store import BlobNotFoundError, BlobStore

UNKNOWN = "0" * 64
#: As `age_s`: even a blob stored at this very moment is older.
AT_ANY_AGE = -60.0


class BlobStoreSuite:
    async def test_what_is_put_can_be_read_under_its_sha256(self, store: BlobStore) -> None:
        for data in (b"", b"x", b"x" * 3_000_000):
            sha256 = await store.put(data)
            assert sha256 == hashlib.sha256(data).hexdigest()
            assert await store.get(sha256) == data
            assert await store.exists(sha256)

    async def test_a_file_is_stored_as_its_contents_would_be(self, store: BlobStore, tmp_path: Path) -> None:
        path = tmp_path / "file"
        for data in (b"", b"y" * 3_000_001):
            path.write_bytes(data)
            sha256 = await store.put_file(path)
            path.write_bytes(b"changed later")
            assert sha256 == hashlib.sha256(data).hexdigest()
            assert await store.get(sha256) == data
        assert await store.put(b"y" * 3_000_001) == sha256
        with pytest.raises(FileNotFoundError):
            await store.put_file(tmp_path / "none")

    async def test_putting_twice_keeps_one(self, store: BlobStore) -> None:
        assert await store.put(b"same") == await store.put(b"same")
        assert len([sha256 async for sha256, _ in store.list()]) == 1

    async def test_an_unknown_blob_is_not_found(self, store: BlobStore, tmp_path: Path) -> None:
        with pytest.raises(BlobNotFoundError):
            await store.get(UNKNOWN)
        with pytest.raises(BlobNotFoundError):
            await store.copy_to(UNKNOWN, tmp_path / "copy")
        assert not (tmp_path / "copy").exists()
        assert not await store.exists(UNKNOWN)
        assert not await store.delete_if_older(UNKNOWN, AT_ANY_AGE)

    async def test_a_deleted_blob_is_gone(self, store: BlobStore) -> None:
        sha256 = await store.put(b"gone")
        assert await store.delete_if_older(sha256, AT_ANY_AGE)
        assert not await store.exists(sha256)
        with pytest.raises(BlobNotFoundError):
            await store.get(sha256)

    async def test_a_young_blob_is_not_deleted(self, store: BlobStore) -> None:
        sha256 = await store.put(b"young")
        assert not await store.delete_if_older(sha256, 60)
        assert await store.get(sha256) == b"young"

    async def test_a_copy_is_a_new_file(self, store: BlobStore, tmp_path: Path) -> None:
        sha256 = await store.put(b"copied")
        await store.copy_to(sha256, tmp_path / "copy")
        assert (tmp_path / "copy").read_bytes() == b"copied"
        with pytest.raises(FileExistsError):
            await store.copy_to(sha256, tmp_path / "copy")

    @pytest.mark.parametrize("key", ["", "../" * 3, "A" * 64, "0" * 63, "0" * 64 + "\n", "/etc/passwd"])
    async def test_what_is_no_digest_is_refused(self, store: BlobStore, tmp_path: Path, key: str) -> None:
        for use in (
            store.get(key),
            store.exists(key),
            store.delete_if_older(key, 0),
            store.copy_to(key, tmp_path / "copy"),
        ):
            with pytest.raises(ValueError, match="not a blob's key"):
                await use

    async def test_list_gives_every_blob_and_its_age(self, store: BlobStore) -> None:
        stored = {await store.put(str(number).encode()) for number in range(20)}
        listed = {sha256: age_s async for sha256, age_s in store.list()}
        assert set(listed) == stored
        assert all(0 <= age_s < 60 for age_s in listed.values())

    async def test_blobs_may_be_deleted_while_they_are_listed(self, store: BlobStore) -> None:
        for number in range(5):
            await store.put(str(number).encode())
        async for sha256, _ in store.list():
            assert await store.delete_if_older(sha256, AT_ANY_AGE)
        assert [item async for item in store.list()] == []

    async def test_many_may_put_and_delete_the_same_at_once(self, store: BlobStore) -> None:
        sha256 = await store.put(b"shared")
        puts = (store.put(b"shared") for _ in range(10))
        await asyncio.gather(*puts, *(store.delete_if_older(sha256, AT_ANY_AGE) for _ in range(10)))
        await store.put(b"shared")
        assert await store.get(sha256) == b"shared"
