"""The blob store in a bucket, by S3's protocol over real connections."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from contract.blobs import s3
from contract.blobs.digest import digest_of
from contract.blobs.open import open_blob_store
from contract.blobs.s3 import BlobStoreUnavailableError, Bucket, S3BlobStore
from contract.blobs.store import BlobStore
from tests.s3_server import S3Server
from tests.suites.blob_store import BlobStoreSuite


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with S3Server() as running:
        yield running


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    # As on a machine whose AWS tools are pointed at an emulator.
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")


@pytest.fixture
def bucket(server: S3Server) -> Bucket:
    return Bucket(name=server.make_bucket(), prefix="cells/one/", endpoint=server.endpoint)


class TestS3BlobStore(BlobStoreSuite):
    @pytest.fixture
    def store(self, bucket: Bucket) -> BlobStore:
        return S3BlobStore(bucket)

    async def test_objects_of_others_are_no_blobs(self, server: S3Server, bucket: Bucket) -> None:
        store = S3BlobStore(bucket)
        sha256 = await store.put(b"ours")
        for key in ("x", f"cells/one/{sha256}", f"cells/one/ab/cd/{sha256}", "cells/one/ab/cd/abcd"):
            server.client.put_object(Bucket=bucket.name, Key=key, Body=b"theirs")
        assert [found async for found, _ in store.list()] == [sha256]

    async def test_a_blob_that_is_put_again_is_young_again(self, server: S3Server, bucket: Bucket) -> None:
        store = S3BlobStore(bucket)
        sha256 = await store.put(b"again")
        server.age(bucket.name, 100)
        await store.put(b"again")
        assert not await store.delete_if_older(sha256, 50)
        server.age(bucket.name, 100)
        assert [age_s >= 100 async for _, age_s in store.list()] == [True]
        assert await store.delete_if_older(sha256, 50)

    async def test_damaged_contents_are_not_handed_out(self, server: S3Server, bucket: Bucket, tmp_path: Path) -> None:
        store = S3BlobStore(bucket)
        sha256 = await store.put(b"sound")
        key = f"cells/one/{sha256[:2]}/{sha256[2:4]}/{sha256}"
        server.client.put_object(Bucket=bucket.name, Key=key, Body=b"wrong")
        with pytest.raises(OSError, match="is damaged"):
            await store.get(sha256)
        with pytest.raises(OSError, match="is damaged"):
            await store.copy_to(sha256, tmp_path / "copy")
        assert not (tmp_path / "copy").exists()

    async def test_large_files_travel_in_parts(
        self, server: S3Server, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # The least that S3 allows.
        monkeypatch.setattr(s3, "PART_BYTES", 5 << 20)
        data = uuid.uuid4().bytes * (12 << 16)
        (tmp_path / "large").write_bytes(data)
        store = S3BlobStore(bucket)

        sha256 = await store.put_file(tmp_path / "large")

        assert sha256 == digest_of(data)
        assert await store.get(sha256) == data
        found = server.client.list_objects_v2(Bucket=bucket.name)["Contents"]
        assert [item["ETag"].rpartition("-")[2] for item in found] == ['3"']

    async def test_a_file_that_changes_on_its_way_is_not_stored(
        self, server: S3Server, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(s3, "PART_BYTES", 5 << 20)
        large = tmp_path / "large"
        large.write_bytes(b"a" * (11 << 20))
        store = S3BlobStore(bucket)

        class Changing:
            """Changes the file when its first part has arrived."""

            def __init__(self, client: Any) -> None:
                self._client = client

            def __getattr__(self, name: str) -> Any:
                if name == "upload_part":
                    large.write_bytes(b"b" * (11 << 20))
                return getattr(self._client, name)

        monkeypatch.setattr(s3, "_client", lambda bucket, make=s3._client: Changing(make(bucket)))
        with pytest.raises(OSError, match="has changed"):
            await store.put_file(large)

        assert server.client.list_objects_v2(Bucket=bucket.name)["KeyCount"] == 0
        assert "Uploads" not in server.client.list_multipart_uploads(Bucket=bucket.name)

    async def test_listing_ends_uploads_of_dead_processes(
        self, server: S3Server, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sha256 = digest_of(b"unfinished")
        ours, theirs = f"cells/one/{sha256[:2]}/{sha256[2:4]}/{sha256}", "cells/one/of-somebody-else"
        for key in (ours, theirs):
            server.client.create_multipart_upload(Bucket=bucket.name, Key=key)
        store = S3BlobStore(bucket)

        # This server calls every upload one of the year 2010.
        monkeypatch.setattr(s3, "STALE_UPLOAD", timedelta(days=100 * 365))
        assert [item async for item in store.list()] == []
        assert len(server.client.list_multipart_uploads(Bucket=bucket.name)["Uploads"]) == 2
        monkeypatch.setattr(s3, "STALE_UPLOAD", timedelta(days=1))
        assert [item async for item in store.list()] == []
        left = server.client.list_multipart_uploads(Bucket=bucket.name)["Uploads"]
        assert [upload["Key"] for upload in left] == [theirs]

    async def test_more_blobs_than_a_page_holds_are_all_listed(self, server: S3Server, bucket: Bucket) -> None:
        keys = {digest_of(str(number).encode()) for number in range(1100)}
        for sha256 in keys:
            key = f"cells/one/{sha256[:2]}/{sha256[2:4]}/{sha256}"
            server.put_quickly(bucket.name, key)
        assert {sha256 async for sha256, _ in S3BlobStore(bucket).list()} == keys


async def test_a_url_names_bucket_prefix_endpoint_and_region(server: S3Server) -> None:
    name = server.make_bucket()
    store = open_blob_store(f"s3://{name}/some/where?endpoint={server.endpoint}&region=eu-west-1")

    sha256 = await store.put(b"x")

    found = server.client.list_objects_v2(Bucket=name)["Contents"]
    assert [item["Key"] for item in found] == [f"some/where/{sha256[:2]}/{sha256[2:4]}/{sha256}"]


async def test_without_an_endpoint_blobs_go_to_amazon_and_nowhere_else() -> None:
    client = s3._client(Bucket(name="bucket", region="eu-central-1"))
    assert client.meta.endpoint_url == "https://s3.eu-central-1.amazonaws.com"


async def test_a_missing_bucket_is_no_missing_blob(server: S3Server) -> None:
    store = S3BlobStore(Bucket(name="nobody-made-it", endpoint=server.endpoint))
    with pytest.raises(
        BlobStoreUnavailableError, match=r"could not put .* in s3://nobody-made-it/ at http://.*NoSuchB"
    ):
        await store.put(b"x")
    with pytest.raises(BlobStoreUnavailableError, match="NoSuchBucket"):
        await store.get(digest_of(b"x"))


async def test_a_store_that_never_answers_is_given_up(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        store = S3BlobStore(Bucket(name="bucket", endpoint=endpoint, read_timeout_s=0.2, attempts=2))
        with pytest.raises(BlobStoreUnavailableError, match="LAMBDOCK_BLOB_URL"):
            await store.put(b"x")
        with pytest.raises(BlobStoreUnavailableError):
            await store.copy_to(digest_of(b"x"), tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
