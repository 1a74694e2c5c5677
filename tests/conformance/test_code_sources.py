"""Where code may come from, and what goes with what: boto3 against the API, with an S3-protocol server beside it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from controller.domain.layer import LayerName
from controller.packages.ports import ObjectTooLargeError, S3Object
from controller.packages.s3 import S3Endpoint, S3Objects
from tests.conformance.test_functions_api import FAST, ROLE, create, ready, refused
from tests.fakes.api_server import ApiServer, found_image, zip_of
from tests.s3_server import S3Server

BAD = "InvalidParameterValueException"
IMAGE = {"PackageType": "Image", "Runtime": None, "Handler": None, "Code": {"ImageUri": "registry.example/app:1"}}
NO_SUCH_KEY = (
    "Error occurred while GetObject. S3 Error Code: NoSuchKey. S3 Error Message: The specified key does not exist."
)
ZIP_SETTINGS = "Please don't provide Handler or Runtime or Layer when the intended function PackageType is Image."


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with S3Server() as running:
        yield running


def objects_at(url: str, *, deadline_s: float = 20.0) -> S3Objects:
    endpoint = S3Endpoint(url=url, region="us-east-1", access_key="key", secret_key="secret")
    return S3Objects(endpoint, deadline_s=deadline_s)


@pytest.fixture
def api(s3: S3Server) -> Iterator[ApiServer]:
    objects = objects_at(s3.endpoint)
    with ApiServer(objects=objects).running() as server:
        yield server
    objects.close()


@pytest.fixture
def client(api: ApiServer) -> Any:
    return api.client()


@pytest.fixture
def bucket(s3: S3Server) -> str:
    return s3.make_bucket()


def digest(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def functions(client: Any) -> list[str]:
    return [one["FunctionName"] for one in client.list_functions()["Functions"]]


# --- S3 ---------------------------------------------------------------------------------------------------------------


def test_code_comes_from_a_bucket(s3: S3Server, api: ApiServer, client: Any, bucket: str) -> None:
    package = zip_of()
    s3.client.put_object(Bucket=bucket, Key="päckchen/code v1.zip", Body=package)

    made = ready(client, Code={"S3Bucket": bucket, "S3Key": "päckchen/code v1.zip"})

    assert (made["CodeSha256"], made["CodeSize"], made["PackageType"]) == (digest(package), len(package), "Zip")
    location = client.get_function(FunctionName="hello")["Code"]
    assert location["RepositoryType"] == "S3"
    assert httpx.get(location["Location"]).content == package


def test_code_comes_from_a_version_of_an_object(s3: S3Server, client: Any, bucket: str) -> None:
    s3.client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    packages = [zip_of(f"x = {number}\n") for number in range(3)]
    ids = [s3.client.put_object(Bucket=bucket, Key="code.zip", Body=one)["VersionId"] for one in packages]
    ready(client, Code={"S3Bucket": bucket, "S3Key": "code.zip", "S3ObjectVersion": ids[0]})

    for wanted, expected in ((ids[1], packages[1]), (None, packages[2])):
        version = {} if wanted is None else {"S3ObjectVersion": wanted}
        client.update_function_code(FunctionName="hello", S3Bucket=bucket, S3Key="code.zip", **version)
        client.get_waiter("function_updated_v2").wait(FunctionName="hello", WaiterConfig=FAST)
        assert client.get_function_configuration(FunctionName="hello")["CodeSha256"] == digest(expected)


def test_a_dry_run_looks_at_the_object_and_keeps_nothing(
    s3: S3Server, api: ApiServer, client: Any, bucket: str
) -> None:
    before = ready(client)
    package = zip_of("dry = True\n")
    s3.client.put_object(Bucket=bucket, Key="k", Body=package)

    tried = client.update_function_code(FunctionName="hello", S3Bucket=bucket, S3Key="k", DryRun=True)

    assert tried["CodeSha256"] == digest(package)
    assert client.get_function_configuration(FunctionName="hello")["CodeSha256"] == before["CodeSha256"]
    assert not api.run(api.blobs.exists(hashlib.sha256(package).hexdigest()))


def test_an_object_that_is_not_there_is_refused_in_the_words_of_s3(
    s3: S3Server, api: ApiServer, client: Any, bucket: str
) -> None:
    ready(client, "other")
    absent = {"S3Bucket": bucket, "S3Key": "none.zip"}

    assert refused(create, client=client, Code=absent) == (400, BAD, NO_SUCH_KEY)
    assert refused(client.update_function_code, FunctionName="other", **absent) == (400, BAD, NO_SUCH_KEY)
    assert refused(create, client=client, Code={"S3Bucket": "no-such-bucket", "S3Key": "k"}) == (
        400,
        BAD,
        "Error occurred while GetObject. S3 Error Code: NoSuchBucket. S3 Error Message: The specified bucket does not"
        " exist",
    )
    s3.client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    s3.client.put_object(Bucket=bucket, Key="code.zip", Body=zip_of())
    status, code, text = refused(
        create, client=client, Code={"S3Bucket": bucket, "S3Key": "code.zip", "S3ObjectVersion": "0" * 32}
    )
    assert (status, code) == (400, BAD)
    assert text.startswith("Error occurred while GetObject. S3 Error Code: ")
    assert functions(client) == ["other"]
    assert client.get_function_configuration(FunctionName="other")["LastUpdateStatus"] == "Successful"


@pytest.mark.parametrize("body", [b"", b"no zip", zip_of()[:-10]])
def test_an_object_that_is_no_package_is_refused_and_not_kept(
    s3: S3Server, api: ApiServer, client: Any, bucket: str, body: bytes
) -> None:
    s3.client.put_object(Bucket=bucket, Key="k", Body=body)

    assert refused(create, client=client, Code={"S3Bucket": bucket, "S3Key": "k"}) == (
        400,
        BAD,
        "Could not unzip uploaded file. Please check your file, then try to upload again.",
    )
    assert functions(client) == []
    assert not api.run(api.blobs.exists(hashlib.sha256(body).hexdigest()))


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ({"ZipFile": zip_of(), "S3Bucket": "bucket", "S3Key": "k"}, "Please do not provide other FunctionCode"),
        ({"ZipFile": zip_of(), "ImageUri": "app:1"}, "Please do not provide other FunctionCode parameters"),
        ({"ImageUri": "app:1"}, "Please provide a source for function code."),
        ({"S3Bucket": "bucket", "S3Key": "k", "ImageUri": "app:1"}, "Please don't provide ImageUri"),
        ({"S3Bucket": "bucket"}, "Please provide a source for function code."),
        ({"S3Key": "k"}, "Please provide a source for function code."),
        ({"S3Bucket": "bucket", "S3Key": "k", "S3ObjectStorageMode": "REFERENCE"}, "use COPY"),
    ],
)
def test_two_sources_of_code_or_half_a_one_are_refused(client: Any, code: dict[str, Any], text: str) -> None:
    status, name, message = refused(create, client=client, Code=code)

    assert (status, name) == (400, BAD)
    assert text in message
    assert functions(client) == []


def test_an_image_and_an_object_are_not_both_code(client: Any) -> None:
    code = {"ImageUri": "app:1", "S3Bucket": "bucket", "S3Key": "k"}

    for source in (code, {"ImageUri": "app:1", "S3ObjectVersion": "1"}):
        status, name, message = refused(
            create, client=client, PackageType="Image", Code=source, Runtime=None, Handler=None
        )
        assert (status, name) == (400, BAD)
        assert "when providing an ImageUri" in message
    assert functions(client) == []


class OneAnswer:
    """A server that answers every request with the same bytes, and then lets the client wait."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.requests: list[bytes] = []
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            threading.Thread(target=self._answer_all, args=(connection,), daemon=True).start()

    def _answer_all(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while request := connection.recv(65_536):
                self.requests.append(request)
                connection.sendall(self._answer)

    def close(self) -> None:
        self._listener.close()
        for connection in self._open:
            connection.close()


def answer(status: str, code: str, message: str, headers: str = "") -> bytes:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            answer("403 Forbidden", "AccessDenied", "Access Denied"),
            (
                403,
                "AccessDeniedException",
                "Your access has been denied by S3, please make sure your request credentials have permission to"
                " GetObject for bucket/k. S3 Error Code: AccessDenied. S3 Error Message: Access Denied",
            ),
        ),
        (
            answer(
                "301 Moved Permanently",
                "PermanentRedirect",
                "The bucket you are attempting to access must be addressed using the specified endpoint.",
                "x-amz-bucket-region: eu-west-1\r\n",
            ),
            (
                400,
                BAD,
                "Error occurred while GetObject. S3 Error Code: PermanentRedirect. S3 Error Message: The bucket is in"
                " this region: eu-west-1. Please use this region to retry the request",
            ),
        ),
        (
            answer("403 Forbidden", "InvalidAccessKeyId", "The key does not exist in our records."),
            (
                400,
                BAD,
                "Error occurred while GetObject. S3 Error Code: InvalidAccessKeyId. S3 Error Message: The key does not"
                " exist in our records.",
            ),
        ),
    ],
)
def test_what_s3_refuses_is_passed_on(said: bytes, expected: tuple[int, str, str]) -> None:
    peer = OneAnswer(said)
    objects = objects_at(peer.url)
    with ApiServer(objects=objects).running() as api:
        assert refused(create, client=api.client(), Code={"S3Bucket": "bucket", "S3Key": "k"}) == expected
    objects.close()
    peer.close()


async def test_what_arrives_when_nobody_waits_any_more_is_not_kept(tmp_path: Path) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    objects = objects_at(f"http://127.0.0.1:{listener.getsockname()[1]}")
    wanted = S3Object(bucket="bucket", key="k")
    fetch = asyncio.create_task(objects.fetch(wanted, tmp_path / "code", limit_bytes=9))
    server, _ = await asyncio.to_thread(listener.accept)

    fetch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetch
    server.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    await asyncio.to_thread(objects._threads.shutdown, wait=True)
    assert list(tmp_path.iterdir()) == []
    objects.close()
    server.close()
    listener.close()


@pytest.mark.parametrize("own", [True, False])
async def test_requests_are_signed_by_the_settings_or_else_by_what_boto3_finds(
    own: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "FOUND")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    # As on a machine whose AWS tools are pointed elsewhere.
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    peer = OneAnswer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    keys = {"access_key": "OWN", "secret_key": "secret"} if own else {}
    objects = S3Objects(S3Endpoint(url=peer.url, region="eu-west-1", **keys))

    await objects.fetch(S3Object(bucket="bucket", key="a b/ä", version="v"), tmp_path / "code", limit_bytes=2)

    (request,) = peer.requests
    assert request.startswith(b"GET /bucket/a%20b/%C3%A4?versionId=v HTTP/1.1\r\n")
    assert f"Credential={'OWN' if own else 'FOUND'}/".encode() in request
    assert b"/eu-west-1/s3/aws4_request" in request
    assert (tmp_path / "code").read_bytes() == b"ok"
    objects.close()
    peer.close()


@pytest.mark.parametrize(
    "said",
    [
        answer("503 Slow Down", "SlowDown", "Please reduce your request rate."),
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf",
        b"",
    ],
    ids=["overloaded", "silent in the middle", "silent"],
)
def test_a_bucket_s_server_that_fails_is_our_failure_and_holds_nobody_for_long(said: bytes) -> None:
    peer = OneAnswer(said)
    objects = objects_at(peer.url, deadline_s=1.0)
    with ApiServer(objects=objects).running() as api:
        status, name, _ = refused(create, client=api.client(), Code={"S3Bucket": "bucket", "S3Key": "k"})
        assert (status, name) == (500, "ServiceException")
        assert functions(api.client()) == []
    objects.close()
    peer.close()


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1048577\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n200000\r\n" + b"x" * 0x200000 + b"\r\n",
    ],
    ids=["says so", "does not"],
)
async def test_an_object_larger_than_any_package_is_not_read_to_its_end(said: bytes, tmp_path: Path) -> None:
    peer = OneAnswer(said)
    objects = objects_at(peer.url)
    wanted = S3Object(bucket="bucket", key="k")

    with pytest.raises(ObjectTooLargeError):
        # The second announces no length, and never ends.
        await objects.fetch(wanted, tmp_path / "code", limit_bytes=0x100000)

    objects.close()
    peer.close()


# --- Images -----------------------------------------------------------------------------------------------------------


def test_an_image_function_is_shown_as_on_aws(api: ApiServer, client: Any) -> None:
    made = create(
        client,
        **IMAGE,
        ImageConfig={"EntryPoint": ["/app"], "Command": ["main", ""], "WorkingDirectory": "/srv"},
    )
    assert made["State"] == "Pending"

    client.get_waiter("function_active_v2").wait(FunctionName="hello", WaiterConfig=FAST)
    shown = client.get_function(FunctionName="hello")

    configuration, code = shown["Configuration"], shown["Code"]
    resolved = code["ResolvedImageUri"]
    assert code == {"RepositoryType": "ECR", "ImageUri": "registry.example/app:1", "ResolvedImageUri": resolved}
    assert resolved.startswith("registry.example/app@sha256:")
    assert configuration["CodeSha256"] == resolved.partition("@sha256:")[2]
    assert (configuration["PackageType"], configuration["CodeSize"]) == ("Image", 0)
    assert configuration["ImageConfigResponse"] == {
        "ImageConfig": {"EntryPoint": ["/app"], "Command": ["main", ""], "WorkingDirectory": "/srv"}
    }
    for absent in ("Runtime", "Handler", "Layers", "RuntimeVersionConfig"):
        assert absent not in configuration


def test_an_image_config_is_replaced_and_removed_whole(client: Any) -> None:
    ready(client, **IMAGE, ImageConfig={"EntryPoint": ["/app"], "Command": ["main"]})

    changed = client.update_function_configuration(FunctionName="hello", ImageConfig={"Command": ["other"]})
    assert changed["ImageConfigResponse"] == {"ImageConfig": {"Command": ["other"]}}
    client.get_waiter("function_updated_v2").wait(FunctionName="hello", WaiterConfig=FAST)

    assert "ImageConfigResponse" not in client.update_function_configuration(FunctionName="hello", ImageConfig={})


def test_new_settings_keep_the_image_that_the_tag_meant(client: Any) -> None:
    before = ready(client, **IMAGE)
    client.update_function_configuration(FunctionName="hello", MemorySize=256)
    client.get_waiter("function_updated_v2").wait(FunctionName="hello", WaiterConfig=FAST)

    after = client.get_function_configuration(FunctionName="hello")

    assert (after["CodeSha256"], after["MemorySize"]) == (before["CodeSha256"], 256)
    assert after["CodeSha256"] != ""


def test_new_code_is_another_image(client: Any) -> None:
    before = ready(client, **IMAGE)
    client.update_function_code(FunctionName="hello", ImageUri="registry.example/app:2", Publish=True)
    client.get_waiter("function_updated_v2").wait(FunctionName="hello", WaiterConfig=FAST)
    client.get_waiter("published_version_active").wait(FunctionName="hello", Qualifier="1", WaiterConfig=FAST)

    shown = client.get_function(FunctionName="hello", Qualifier="1")

    assert shown["Code"]["ImageUri"] == "registry.example/app:2"
    assert shown["Configuration"]["CodeSha256"] not in ("", before["CodeSha256"])
    assert (
        client.publish_version(FunctionName="hello", CodeSha256=shown["Configuration"]["CodeSha256"])["Version"] == "1"
    )


def test_a_function_never_changes_its_package_type(client: Any) -> None:
    ready(client, "zip")
    ready(client, "image", **IMAGE)

    assert refused(client.update_function_code, FunctionName="zip", ImageUri="app:1") == (
        400,
        BAD,
        "Please don't provide ImageUri when updating a function with packageType Zip.",
    )
    for source in ({"ZipFile": zip_of()}, {"S3Bucket": "bucket", "S3Key": "k"}):
        assert refused(client.update_function_code, FunctionName="image", **source) == (
            400,
            BAD,
            "Please provide ImageUri when updating a function with packageType Image.",
        )


LAYER = "arn:aws:lambda:us-east-1:000000000000:layer:l:1"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({**IMAGE, "Runtime": "python3.13"}, ZIP_SETTINGS),
        ({**IMAGE, "Handler": "app.handler"}, ZIP_SETTINGS),
        ({**IMAGE, "Layers": [LAYER]}, ZIP_SETTINGS),
        ({**IMAGE, "Code": {"ZipFile": zip_of()}}, "Please provide ImageUri"),
        ({**IMAGE, "Code": {"S3Bucket": "bucket", "S3Key": "k"}}, "Please provide ImageUri"),
        ({**IMAGE, "PackageType": None}, "Runtime and Handler are mandatory parameters"),
        ({"Code": {"ImageUri": "app:1"}, "PackageType": "Zip"}, "Please"),
        (
            {**IMAGE, "Code": {"ImageUri": "UPPER:1"}},
            "Source image UPPER:1 is not valid. Provide a valid source image.",
        ),
        ({"ImageConfig": {"Command": ["x"]}}, "Please don't provide ImageConfig"),
        ({"Handler": None}, "Runtime and Handler are mandatory parameters"),
    ],
)
def test_what_does_not_go_together_is_refused(client: Any, changes: dict[str, Any], text: str) -> None:
    status, name, message = refused(create, client=client, **changes)

    assert (status, name) == (400, BAD)
    assert text in message
    assert functions(client) == []


@pytest.mark.parametrize("changes", [{"Runtime": "python3.13"}, {"Handler": "app.handler"}])
def test_an_image_function_gets_no_runtime_later(client: Any, changes: dict[str, Any]) -> None:
    ready(client, **IMAGE)

    assert refused(client.update_function_configuration, FunctionName="hello", **changes) == (400, BAD, ZIP_SETTINGS)
    absent = refused(client.update_function_configuration, FunctionName="hello", Layers=[LAYER])
    assert absent == (400, BAD, ZIP_SETTINGS)


def test_a_package_gets_no_image_config_later(client: Any) -> None:
    ready(client)

    status, name, message = refused(
        client.update_function_configuration, FunctionName="hello", ImageConfig={"Command": ["x"]}
    )
    assert (status, name) == (400, BAD)
    assert "ImageConfig" in message


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"ImageConfig": {"EntryPoint": ["x"] * 1501}}, "imageConfig.entryPoint"),
        ({"ImageConfig": {"Command": ["x"] * 1501}}, "imageConfig.command"),
        ({"ImageConfig": {"WorkingDirectory": "x" * 1001}}, "imageConfig.workingDirectory"),
        ({"Code": {"S3Bucket": "x", "S3Key": "k"}}, "code.s3Bucket"),
        ({"Code": {"S3Bucket": "bucket", "S3Key": "k" * 1025}}, "code.s3Key"),
        ({"Code": {"S3Bucket": "bucket", "S3Key": "k\n"}}, "code.s3Key"),
        ({"Code": {"S3Bucket": "bucket", "S3Key": "k", "S3ObjectVersion": ""}}, "code.s3ObjectVersion"),
        ({"Code": {"S3Bucket": "bucket", "S3Key": "k", "S3ObjectStorageMode": "MOVE"}}, "code.s3ObjectStorageMode"),
    ],
)
def test_the_limits_of_the_model_are_kept(api: ApiServer, changes: dict[str, Any], path: str) -> None:
    client = api.client(validates=False)

    status, name, message = refused(create, client=client, **{**IMAGE, **changes})

    assert (status, name) == (400, "ValidationException")
    assert f"at '{path}' failed to satisfy constraint" in message


def test_wrong_types_are_a_serialization_error(api: ApiServer) -> None:
    body = {"FunctionName": "f", "Role": ROLE, "PackageType": "Image", "Code": {"ImageUri": 1}}
    response = httpx.post(f"{api.url}/2015-03-31/functions", content=json.dumps(body))

    assert (response.status_code, response.headers["x-amzn-errortype"]) == (400, "SerializationException")


# --- Layers -----------------------------------------------------------------------------------------------------------


def layer(client: Any, name: str, source: str = "y = 1\n") -> dict[str, Any]:
    made: dict[str, Any] = client.publish_layer_version(LayerName=name, Content={"ZipFile": zip_of(source)})
    return made


def test_layers_are_shown_in_their_order_and_go_into_versions(api: ApiServer, client: Any) -> None:
    layers = [layer(client, name) for name in ("b", "a")]
    arns = [one["LayerVersionArn"] for one in layers]

    made = ready(client, Layers=arns, Publish=True)
    shown = [{"Arn": one["LayerVersionArn"], "CodeSize": one["Content"]["CodeSize"]} for one in layers]
    assert made["Layers"] == shown

    changed = client.update_function_configuration(FunctionName="hello", Layers=arns[::-1])
    assert [one["Arn"] for one in changed["Layers"]] == arns[::-1]
    client.get_waiter("function_updated_v2").wait(FunctionName="hello", WaiterConfig=FAST)
    assert client.publish_version(FunctionName="hello")["Version"] == "2"
    assert client.get_function_configuration(FunctionName="hello", Qualifier="1")["Layers"] == shown

    assert "Layers" not in client.update_function_configuration(FunctionName="hello", Layers=[])


def test_new_code_and_other_settings_keep_the_layers(client: Any) -> None:
    arn = layer(client, "a")["LayerVersionArn"]
    ready(client, Layers=[arn])
    client.update_function_code(FunctionName="hello", ZipFile=zip_of("x = 2\n"))
    client.get_waiter("function_updated_v2").wait(FunctionName="hello", WaiterConfig=FAST)

    kept = client.update_function_configuration(FunctionName="hello", Timeout=9)

    assert [one["Arn"] for one in kept["Layers"]] == [arn]


def test_a_layer_s_blob_outlives_its_version_while_a_function_uses_it(api: ApiServer, client: Any) -> None:
    made = layer(client, "a")
    ready(client, Layers=[made["LayerVersionArn"]])
    client.delete_layer_version(LayerName="a", VersionNumber=1)

    blob = base64.b64decode(made["Content"]["CodeSha256"]).hex()
    assert blob in api.run(api.core.references.referenced_blobs())
    client.delete_function(FunctionName="hello")
    assert blob not in api.run(api.core.references.referenced_blobs())


def test_a_layer_that_is_deleted_while_the_code_is_stored_is_missed(
    api: ApiServer, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    arn = layer(client, "a")["LayerVersionArn"]
    put = api.blobs.put

    async def slow_put(data: bytes) -> str:
        # As long as it may take, a collection begins and ends.
        await api.core.layers.delete(
            "000000000000", "us-east-1", LayerName(account="000000000000", region="us-east-1", name="a"), 1
        )
        return await put(data)

    monkeypatch.setattr(api.blobs, "put", slow_put)

    assert refused(create, client=client, Layers=[arn]) == (400, BAD, f"Layer version {arn} does not exist.")
    assert functions(client) == []


def test_code_and_layers_together_have_a_limit(api: ApiServer, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    arn = layer(client, "a", "y = 1\n")["LayerVersionArn"]
    package = zip_of("x" * 60)
    monkeypatch.setattr("controller.resources.functions.code.MAX_UNZIPPED_BYTES", 60 + 6)
    ready(client, Layers=[arn], Code={"ZipFile": package})

    larger = zip_of("x" * 61)
    text = (
        "Function code combined with layers exceeds the maximum allowed size of 262144000 bytes. The actual size is 67"
        " bytes."
    )
    assert refused(client.update_function_code, FunctionName="hello", ZipFile=larger) == (400, BAD, text)
    assert refused(create, client=client, name="other", Layers=[arn], Code={"ZipFile": larger}) == (400, BAD, text)
    assert not api.run(api.blobs.exists(hashlib.sha256(larger).hexdigest()))
    assert functions(client) == ["hello"]


def test_found_images_are_those_of_their_tag() -> None:
    """The stand-in for a worker must tell tags apart, or the tests above prove nothing."""
    uris = {found_image(type("Launch", (), {"image_uri": f"a:{tag}"})()).uri for tag in (1, 2)}
    assert len(uris) == 2


def test_nothing_that_was_fetched_lies_about(
    s3: S3Server, tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    objects = objects_at(s3.endpoint)
    with ApiServer(objects=objects).running() as api:
        client = api.client()
        s3.client.put_object(Bucket=bucket, Key="good", Body=zip_of())
        s3.client.put_object(Bucket=bucket, Key="bad", Body=b"x")
        create(client, Code={"S3Bucket": bucket, "S3Key": "good"})
        refused(create, client=client, name="other", Code={"S3Bucket": bucket, "S3Key": "bad"})
        refused(create, client=client, name="other", Code={"S3Bucket": bucket, "S3Key": "absent"})
    objects.close()

    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
