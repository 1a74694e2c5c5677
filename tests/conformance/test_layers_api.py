"""Layers through real boto3 against the API over HTTP, with memory behind the ports."""

from __future__ import annotations

import base64
import hashlib
import http.client
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from controller.domain.layer import NAME_PATTERN, VERSION_ARN_PATTERN
from controller.domain.runtimes import RUNTIMES
from tests.conformance.calls import refusal
from tests.conformance.test_functions_api import assert_known, model
from tests.fakes.api_server import ApiServer, zip_of

ARN = "arn:aws:lambda:us-east-1:000000000000:layer"
MISSING = (404, "ResourceNotFoundException", "The resource you requested does not exist.")


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with ApiServer().running() as server:
        yield server


@pytest.fixture
def client(api: ApiServer) -> Any:
    return api.client()


def publish(client: Any, name: str = "one", source: str = "x = 1\n", **members: Any) -> dict[str, Any]:
    answer: dict[str, Any] = client.publish_layer_version(
        LayerName=name, Content={"ZipFile": zip_of(source)}, **members
    )
    return answer


def refused(call: Any, **arguments: Any) -> tuple[int, str, str]:
    answer = refusal(call, **arguments)
    return answer.status, answer.code, answer.message


def numbers(pages: Any) -> list[int]:
    return [one["Version"] for page in pages for one in page["LayerVersions"]]


def without_metadata(answer: dict[str, Any]) -> dict[str, Any]:
    shown = {name: value for name, value in answer.items() if name != "ResponseMetadata"}
    if "Content" in shown:
        shown["Content"] = {name: value for name, value in shown["Content"].items() if name != "Location"}
    return shown


def test_the_patterns_of_names_are_those_of_the_service_model() -> None:
    assert model().shape_for("LayerNameOrArn").metadata["pattern"] == NAME_PATTERN
    assert model().shape_for("LayerVersionArn").metadata["pattern"] == VERSION_ARN_PATTERN


def test_a_version_is_published_and_read_back(client: Any) -> None:
    made = publish(
        client,
        Description="libraries, ä",
        LicenseInfo="MIT",
        CompatibleRuntimes=["python3.13", "nodejs22.x"],
        CompatibleArchitectures=["arm64", "x86_64"],
    )

    assert made["ResponseMetadata"]["HTTPStatusCode"] == 201
    shown = without_metadata(made)
    created = shown.pop("CreatedDate")
    assert len(created) == len("2026-01-31T12:00:00.000+0000")
    assert created.endswith("+0000")
    assert shown == {
        "Content": {
            "CodeSha256": base64.b64encode(hashlib.sha256(zip_of("x = 1\n")).digest()).decode(),
            "CodeSize": len(zip_of("x = 1\n")),
        },
        "LayerArn": f"{ARN}:one",
        "LayerVersionArn": f"{ARN}:one:1",
        "Version": 1,
        "Description": "libraries, ä",
        "LicenseInfo": "MIT",
        "CompatibleRuntimes": ["python3.13", "nodejs22.x"],
        "CompatibleArchitectures": ["arm64", "x86_64"],
    }
    by_name = client.get_layer_version(LayerName="one", VersionNumber=1)
    by_layer_arn = client.get_layer_version(LayerName=f"{ARN}:one", VersionNumber=1)
    by_arn = client.get_layer_version_by_arn(Arn=f"{ARN}:one:1")
    assert without_metadata(by_name) == without_metadata(by_layer_arn) == without_metadata(by_arn)
    assert without_metadata(by_name) == without_metadata(made)
    assert by_name["ResponseMetadata"]["HTTPStatusCode"] == 200


def test_the_link_to_the_contents_is_signed_and_opens_them(api: ApiServer, client: Any) -> None:
    publish(client)
    links = [
        publish(client)["Content"]["Location"],
        client.get_layer_version(LayerName="one", VersionNumber=1)["Content"]["Location"],
    ]

    for link in links:
        assert link.startswith(api.url)
        assert httpx.get(link).content == zip_of("x = 1\n")
        assert httpx.get(link[:-1] + ("0" if link[-1] != "0" else "1")).status_code == 403
        assert httpx.get(link.replace("expires=", "expires=9")).status_code == 403


def test_raw_answers_have_only_members_of_the_model(api: ApiServer, client: Any) -> None:
    publish(client)
    publish(client, LicenseInfo="MIT", CompatibleRuntimes=["python3.13"], CompatibleArchitectures=["arm64"])
    paths = {
        "ListLayers": "/2018-10-31/layers?MaxItems=1",
        "ListLayerVersions": "/2018-10-31/layers/one/versions?MaxItems=1",
        "GetLayerVersion": "/2018-10-31/layers/one/versions/2",
        "GetLayerVersionByArn": f"/2018-10-31/layers?find=LayerVersion&Arn={ARN}:one:2",
    }

    for name, path in paths.items():
        assert_known(model().operation_model(name).output_shape, httpx.get(f"{api.url}{path}").json(), name)


def test_versions_count_per_layer_and_their_numbers_never_come_back(client: Any) -> None:
    assert [publish(client)["Version"] for _ in range(3)] == [1, 2, 3]
    assert publish(client, "other")["Version"] == 1

    for number in (3, 1, 2):
        answer = client.delete_layer_version(LayerName="one", VersionNumber=number)
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204

    assert client.list_layer_versions(LayerName="one")["LayerVersions"] == []
    assert [one["LayerName"] for one in client.list_layers()["Layers"]] == ["other"]
    assert publish(client)["Version"] == 4


def test_deleting_is_idempotent_and_reading_what_is_not_there_is_not_found(client: Any) -> None:
    publish(client)

    for name, number in (("one", 1), ("one", 1), ("one", 7), ("never", 1), (f"{ARN}:one", 1), ("one", 2**62)):
        answer = client.delete_layer_version(LayerName=name, VersionNumber=number)
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert refused(client.get_layer_version, LayerName="one", VersionNumber=1) == MISSING
    assert refused(client.get_layer_version, LayerName="never", VersionNumber=1) == MISSING
    assert refused(client.get_layer_version, LayerName="one", VersionNumber=2**62) == MISSING
    assert refused(client.get_layer_version_by_arn, Arn=f"{ARN}:one:1") == MISSING


@pytest.mark.parametrize("operation", ["get_layer_version", "delete_layer_version"])
def test_numbers_below_1_are_refused(client: Any, operation: str) -> None:
    publish(client)

    for number in (0, -1):
        assert refused(getattr(client, operation), LayerName="one", VersionNumber=number) == (
            400,
            "InvalidParameterValueException",
            "Layer Version Cannot be less than 1",
        )


def test_versions_are_listed_newest_first_in_pages(client: Any) -> None:
    for number in range(5):
        publish(client, Description=f"the {number + 1}th")
    client.delete_layer_version(LayerName="one", VersionNumber=3)

    pages = list(
        client.get_paginator("list_layer_versions").paginate(LayerName="one", PaginationConfig={"PageSize": 2})
    )

    assert numbers(pages) == [5, 4, 2, 1]
    assert [len(page["LayerVersions"]) for page in pages] == [2, 2]
    assert "NextMarker" not in pages[-1]
    first = pages[0]["LayerVersions"][0]
    assert sorted(first) == ["CreatedDate", "Description", "LayerVersionArn", "Version"]
    assert (first["LayerVersionArn"], first["Description"]) == (f"{ARN}:one:5", "the 5th")
    assert numbers([client.list_layer_versions(LayerName=f"{ARN}:one")]) == [5, 4, 2, 1]
    assert numbers([client.list_layer_versions(LayerName="never")]) == []


def test_layers_are_listed_by_name_with_their_newest_version_in_pages(client: Any) -> None:
    for name in ("b", "a", "c", "b"):
        publish(client, name)

    pages = list(client.get_paginator("list_layers").paginate(PaginationConfig={"PageSize": 2}))

    shown = [
        (one["LayerName"], one["LayerArn"], one["LatestMatchingVersion"]["Version"])
        for page in pages
        for one in page["Layers"]
    ]
    assert shown == [("a", f"{ARN}:a", 1), ("b", f"{ARN}:b", 2), ("c", f"{ARN}:c", 1)]
    assert [len(page["Layers"]) for page in pages] == [2, 1]
    for call, arguments in ((client.list_layers, {}), (client.list_layer_versions, {"LayerName": "a"})):
        status, code, text = refused(call, Marker="garbage", **arguments)
        assert (status, code) == (400, "InvalidParameterValueException")
        assert "Invalid Marker 'garbage'" in text


def test_a_page_has_50_entries_unless_it_is_asked_to_have_fewer(client: Any) -> None:
    for _ in range(51):
        publish(client)

    first = client.list_layer_versions(LayerName="one")
    rest = client.list_layer_versions(LayerName="one", Marker=first["NextMarker"])

    assert numbers([first]) == list(range(51, 1, -1))
    assert numbers([rest]) == [1]


def test_lists_are_filtered_by_runtime_and_architecture(client: Any) -> None:
    publish(client, CompatibleRuntimes=["python3.12"], CompatibleArchitectures=["arm64"])
    publish(client, CompatibleRuntimes=["python3.12", "python3.13"], CompatibleArchitectures=["x86_64"])
    publish(client)
    publish(client, "node", CompatibleRuntimes=["nodejs22.x"], CompatibleArchitectures=["x86_64", "arm64"])

    def versions(**filters: str) -> list[int]:
        return numbers(
            client.get_paginator("list_layer_versions").paginate(
                LayerName="one", PaginationConfig={"PageSize": 1}, **filters
            )
        )

    def layers(**filters: str) -> list[tuple[str, int]]:
        pages = client.get_paginator("list_layers").paginate(PaginationConfig={"PageSize": 1}, **filters)
        return [(one["LayerName"], one["LatestMatchingVersion"]["Version"]) for page in pages for one in page["Layers"]]

    assert versions(CompatibleRuntime="python3.12") == [2, 1]
    assert versions(CompatibleArchitecture="arm64") == [1]
    assert versions(CompatibleRuntime="python3.13", CompatibleArchitecture="arm64") == []
    assert layers() == [("node", 1), ("one", 3)]
    assert layers(CompatibleArchitecture="arm64") == [("node", 1), ("one", 1)]
    assert layers(CompatibleRuntime="python3.13") == [("one", 2)]


def test_nothing_crosses_accounts_or_regions(api: ApiServer, client: Any) -> None:
    publish(client)
    other, elsewhere = api.client(account="111111111111"), api.client(region="eu-west-1")

    for stranger in (other, elsewhere):
        assert stranger.list_layers()["Layers"] == []
        assert stranger.list_layer_versions(LayerName="one")["LayerVersions"] == []
        assert refused(stranger.get_layer_version, LayerName="one", VersionNumber=1) == MISSING
        stranger.delete_layer_version(LayerName="one", VersionNumber=1)
    assert publish(other)["LayerVersionArn"] == "arn:aws:lambda:us-east-1:111111111111:layer:one:1"
    assert publish(elsewhere)["LayerVersionArn"] == "arn:aws:lambda:eu-west-1:000000000000:layer:one:1"
    assert numbers([client.list_layer_versions(LayerName="one")]) == [1]


def test_layers_of_other_accounts_are_refused_for_want_of_a_policy(api: ApiServer, client: Any) -> None:
    publish(client)
    other = api.client(account="111111111111")

    def text(action: str, resource: str) -> tuple[int, str, str]:
        return (
            403,
            "AccessDeniedException",
            f"User: arn:aws:iam::111111111111:root is not authorized to perform: lambda:{action} on resource:"
            f" {resource} because no resource-based policy allows the lambda:{action} action",
        )

    layer = f"{ARN}:one"
    assert refused(other.get_layer_version_by_arn, Arn=f"{layer}:1") == text("GetLayerVersion", f"{layer}:1")
    assert refused(other.get_layer_version, LayerName=layer, VersionNumber=1) == text("GetLayerVersion", f"{layer}:1")
    assert refused(other.list_layer_versions, LayerName=layer) == text("ListLayerVersions", layer)
    assert refused(other.delete_layer_version, LayerName=layer, VersionNumber=1) == text(
        "DeleteLayerVersion", f"{layer}:1"
    )
    assert refused(publish, client=other, name=layer) == text("PublishLayerVersion", layer)
    assert refused(api.client(region="eu-west-1").list_layer_versions, LayerName=layer)[:2] == (
        404,
        "ResourceNotFoundException",
    )
    assert numbers([client.list_layer_versions(LayerName="one")]) == [1]


@pytest.mark.parametrize(
    ("members", "violation"),
    [
        ({"Description": "x" * 257}, "at 'description' failed to satisfy constraint: Member must have length less"),
        ({"LicenseInfo": "x" * 513}, "at 'licenseInfo' failed to satisfy constraint: Member must have length less"),
        (
            {"CompatibleRuntimes": ["python3.13", "cobol"]},
            "Value '[python3.13, cobol]' at 'compatibleRuntimes' failed to satisfy constraint: Member must satisfy enum"
            f" value set: [{', '.join(RUNTIMES)}]",
        ),
        (
            {"CompatibleRuntimes": ["python3.13"] * 16},
            "at 'compatibleRuntimes' failed to satisfy constraint: Member must have length less than or equal to 15",
        ),
        (
            {"CompatibleArchitectures": ["vax"]},
            "Value '[vax]' at 'compatibleArchitectures' failed to satisfy constraint: Member must satisfy constraint:"
            " [Member must satisfy enum value set: [x86_64, arm64]]",
        ),
        (
            {"CompatibleArchitectures": ["arm64", "x86_64", "arm64"]},
            "at 'compatibleArchitectures' failed to satisfy constraint: Member must have length less than or equal"
            " to 2",
        ),
        (
            {"Content": {"S3Bucket": "b.", "S3Key": "k"}},
            "Value 'b.' at 'content.s3Bucket' failed to satisfy constraint: Member must have length greater than or"
            " equal to 3",
        ),
        ({"Content": {"S3Bucket": "bucket", "S3Key": ""}}, "Value '' at 'content.s3Key' failed to satisfy constraint"),
        (
            {"Content": {"S3Bucket": "bucket", "S3Key": "a\nb"}},
            "at 'content.s3Key' failed to satisfy constraint: Member must satisfy regular expression pattern: .*",
        ),
        ({"LicenseInfo": "MIT\n"}, "at 'licenseInfo' failed to satisfy constraint: Member must satisfy regular"),
        ({"Content": None}, "Value null at 'content' failed to satisfy constraint: Member must not be null"),
        ({"LayerName": "a.b"}, f"Value 'a.b' at 'layerName' failed to satisfy constraint: {NAME_PATTERN}"),
        ({"LayerName": "x" * 141}, "at 'layerName' failed to satisfy constraint: Member must satisfy regular"),
        ({"LayerName": f"{ARN}:one:1"}, f"Value '{ARN}:one:1' at 'layerName' failed to satisfy constraint"),
    ],
)
def test_what_the_model_forbids_is_refused_and_nothing_is_left(
    api: ApiServer, members: dict[str, Any], violation: str
) -> None:
    client = api.client(validates=False)
    wanted = {"LayerName": "one", "Content": {"ZipFile": zip_of()}, **members}

    status, code, text = refused(
        client.publish_layer_version, **{name: value for name, value in wanted.items() if value is not None}
    )

    assert (status, code) == (400, "ValidationException")
    assert violation.replace(f": {NAME_PATTERN}", "") in text
    assert NAME_PATTERN in text or NAME_PATTERN not in violation
    assert client.list_layers()["Layers"] == []


def test_all_violations_are_told_at_once(api: ApiServer) -> None:
    client = api.client(validates=False)

    text = refused(publish, client=client, Description="x" * 257, CompatibleArchitectures=["vax"])[2]

    assert text.startswith("2 validation errors detected: ")


@pytest.mark.parametrize("call", ["list_layers", "list_layer_versions"])
@pytest.mark.parametrize(
    ("query", "violation"),
    [
        ({"CompatibleRuntime": "cobol"}, "Value 'cobol' at 'compatibleRuntime' failed to satisfy constraint"),
        ({"CompatibleArchitecture": "vax"}, "Value 'vax' at 'compatibleArchitecture' failed to satisfy constraint"),
        ({"MaxItems": 0}, "Value '0' at 'maxItems' failed to satisfy constraint: Member must have value greater than"),
        ({"MaxItems": 51}, "Value '51' at 'maxItems' failed to satisfy constraint: Member must have value less than"),
    ],
)
def test_bad_queries_are_refused(api: ApiServer, call: str, query: dict[str, Any], violation: str) -> None:
    arguments = query if call == "list_layers" else {"LayerName": "one", **query}

    status, code, text = refused(getattr(api.client(validates=False), call), **arguments)

    assert (status, code) == (400, "ValidationException")
    assert violation in text


@pytest.mark.parametrize("arn", [f"{ARN}:one", "one", "", f"{ARN}:one:x"])
def test_what_is_no_arn_of_a_version_is_refused(api: ApiServer, arn: str) -> None:
    status, code, text = refused(api.client(validates=False).get_layer_version_by_arn, Arn=arn)

    assert (status, code) == (400, "ValidationException")
    assert f"Value '{arn}' at 'arn' failed to satisfy constraint" in text
    assert VERSION_ARN_PATTERN in text


@pytest.mark.parametrize("path", ["/2018-10-31/layers/one/versions/x", "/2018-10-31/layers/one/versions/1.5"])
def test_what_is_no_number_is_refused(api: ApiServer, path: str) -> None:
    for method in ("GET", "DELETE"):
        connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=10)
        connection.request(method, path)
        answer = connection.getresponse()
        assert (answer.status, answer.headers["x-amzn-ErrorType"]) == (400, "SerializationException")
        connection.close()


@pytest.mark.parametrize("data", [b"no zip", zip_of()[:-30], b"PK\x05\x06" + bytes(18)])
def test_contents_that_are_no_zip_are_refused_and_nothing_is_left(api: ApiServer, client: Any, data: bytes) -> None:
    answer = refused(client.publish_layer_version, LayerName="one", Content={"ZipFile": data})

    assert answer == (
        400,
        "InvalidParameterValueException",
        "Could not unzip uploaded file. Please check your file, then try to upload again.",
    )
    assert client.list_layers()["Layers"] == []
    assert publish(client)["Version"] == 1


def test_the_account_is_told_what_its_layers_take(client: Any) -> None:
    before = client.get_account_settings()["AccountUsage"]["TotalCodeSize"]
    publish(client)
    publish(client, "other")

    assert client.get_account_settings()["AccountUsage"]["TotalCodeSize"] == before + 2 * len(zip_of("x = 1\n"))


def test_a_layers_blob_is_kept_while_a_version_or_a_function_has_it(api: ApiServer, client: Any) -> None:
    made = publish(client)
    digest = base64.b64decode(made["Content"]["CodeSha256"]).hex()
    client.create_function(
        FunctionName="f",
        Role="arn:aws:iam::000000000000:role/r",
        Runtime="python3.13",
        Handler="app.handler",
        Code={"ZipFile": zip_of("y = 2\n")},
        Layers=[made["LayerVersionArn"]],
    )

    def is_needed() -> bool:
        return digest in api.run(api.core.references.referenced_blobs())

    client.delete_layer_version(LayerName="one", VersionNumber=1)
    assert is_needed()
    client.delete_function(FunctionName="f")
    assert not is_needed()
    publish(client)
    assert is_needed()
