"""Layers whose contents lie in a bucket of a server that speaks S3's protocol."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from controller.packages.s3 import S3Endpoint, S3Objects
from tests.conformance.calls import refusal
from tests.conformance.layer_zips import layer_zip, zeros
from tests.fakes.api_server import ApiServer
from tests.s3_server import S3Server

CONTENT = layer_zip({"python/dep.py": "N = 1\n"})


@pytest.fixture
def s3() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


@pytest.fixture
def api(s3: S3Server) -> Iterator[ApiServer]:
    objects = S3Objects(S3Endpoint(url=s3.endpoint, region="us-east-1", access_key="key", secret_key="secret"))
    with ApiServer(objects=objects).running() as server:
        yield server
    objects.close()


@pytest.fixture
def client(api: ApiServer) -> Any:
    return api.client()


@pytest.fixture
def bucket(s3: S3Server) -> str:
    return s3.make_bucket()


def refused(client: Any, **content: str) -> tuple[int, str, str]:
    answer = refusal(client.publish_layer_version, LayerName="one", Content=content)
    return answer.status, answer.code, answer.message


def nothing_is_left(api: ApiServer, client: Any) -> bool:
    async def blobs() -> int:
        return len([one async for one in api.blobs.list()])

    return client.list_layers()["Layers"] == [] and api.run(blobs()) == 0


def test_contents_are_taken_from_a_bucket(s3: S3Server, client: Any, bucket: str) -> None:
    s3.client.put_object(Bucket=bucket, Key="layers/ä dep.zip", Body=CONTENT)

    made = client.publish_layer_version(
        LayerName="one", Content={"S3Bucket": bucket, "S3Key": "layers/ä dep.zip", "S3ObjectStorageMode": "COPY"}
    )

    assert made["Content"]["CodeSha256"] == base64.b64encode(hashlib.sha256(CONTENT).digest()).decode()
    assert made["Content"]["CodeSize"] == len(CONTENT)
    s3.client.delete_object(Bucket=bucket, Key="layers/ä dep.zip")
    assert httpx.get(made["Content"]["Location"]).content == CONTENT


def test_a_version_of_the_object_may_be_named(s3: S3Server, client: Any, bucket: str) -> None:
    s3.client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    old = s3.client.put_object(Bucket=bucket, Key="dep.zip", Body=CONTENT)["VersionId"]
    s3.client.put_object(Bucket=bucket, Key="dep.zip", Body=layer_zip({"other": "x"}))

    named = {"S3Bucket": bucket, "S3Key": "dep.zip"}
    made = client.publish_layer_version(LayerName="one", Content={**named, "S3ObjectVersion": old})
    newest = client.publish_layer_version(LayerName="one", Content=named)

    assert made["Content"]["CodeSize"] == len(CONTENT)
    assert newest["Content"]["CodeSha256"] != made["Content"]["CodeSha256"]


def test_an_object_that_is_not_there_is_refused_and_nothing_is_left(api: ApiServer, client: Any, bucket: str) -> None:
    status, code, text = refused(client, S3Bucket=bucket, S3Key="none.zip")
    assert (status, code) == (400, "InvalidParameterValueException")
    assert text.startswith("Error occurred while GetObject. S3 Error Code: NoSuchKey. S3 Error Message: ")

    status, code, text = refused(client, S3Bucket="no-such-bucket-here", S3Key="none.zip")
    assert (status, code) == (400, "InvalidParameterValueException")
    assert text.startswith("Error occurred while GetObject. S3 Error Code: NoSuchBucket. S3 Error Message: ")

    assert nothing_is_left(api, client)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"no zip", "Could not unzip uploaded file. Please check your file, then try to upload again."),
        (b"", "Could not unzip uploaded file. Please check your file, then try to upload again."),
        (zeros(251 << 20), "Unzipped size must be smaller than 262144000 bytes"),
    ],
    ids=["no zip", "empty", "too large"],
)
def test_objects_that_are_no_layers_are_refused_and_nothing_is_left(
    s3: S3Server, api: ApiServer, client: Any, bucket: str, data: bytes, text: str
) -> None:
    s3.client.put_object(Bucket=bucket, Key="dep.zip", Body=data)

    assert refused(client, S3Bucket=bucket, S3Key="dep.zip") == (400, "InvalidParameterValueException", text)
    assert nothing_is_left(api, client)


def test_one_source_is_needed_and_no_more(client: Any) -> None:
    assert refused(client) == (
        400,
        "InvalidParameterValueException",
        "Please provide a source for layer content.",
    )
    answer = refusal(
        client.publish_layer_version,
        LayerName="one",
        Content={"ZipFile": CONTENT, "S3Bucket": "bucket", "S3Key": "key"},
    )
    assert (answer.status, answer.code) == (400, "InvalidParameterValueException")


def test_without_an_endpoint_buckets_are_refused() -> None:
    with ApiServer().running() as api:
        status, code, text = refused(api.client(), S3Bucket="bucket", S3Key="key")

    assert (status, code) == (400, "InvalidParameterValueException")
    assert "LAMBDOCK_S3_ENDPOINT" in text
