"""Real boto3 against the API over HTTP, with memory behind the ports and a preparation that needs no Docker."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
from collections.abc import Iterator
from typing import Any

import botocore.session
import httpx
import pytest
from botocore.exceptions import ClientError, WaiterError

from controller.api.operations import OPERATIONS
from controller.domain.function import PreparationFailure
from controller.domain.runtimes import RUNTIMES
from tests.fakes.api_server import ApiServer, zip_of

ROLE = "arn:aws:iam::000000000000:role/r"
FAST = {"Delay": 0, "MaxAttempts": 500}


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with ApiServer().running() as server:
        yield server


@pytest.fixture
def client(api: ApiServer) -> Any:
    return api.client()


def create(client: Any, name: str = "hello", **changes: Any) -> dict[str, Any]:
    wanted = {
        "FunctionName": name,
        "Runtime": "python3.13",
        "Role": ROLE,
        "Handler": "app.handler",
        "Code": {"ZipFile": zip_of()},
        **changes,
    }
    answer: dict[str, Any] = client.create_function(
        **{key: value for key, value in wanted.items() if value is not None}
    )
    return answer


def ready(client: Any, name: str = "hello", **changes: Any) -> dict[str, Any]:
    create(client, name, **changes)
    client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig=FAST)
    answer: dict[str, Any] = client.get_function_configuration(FunctionName=name)
    return answer


def refused(call: Any, **arguments: Any) -> tuple[int, str, str]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    answer = caught.value.response
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    assert headers["x-amzn-errortype"] == answer["Error"]["Code"]
    assert headers["x-amzn-requestid"]
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"], answer["Error"]["Message"]


def model() -> Any:
    return botocore.session.get_session().get_service_model("lambda")


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_the_table_of_operations_agrees_with_the_service_model(name: str) -> None:
    ours, theirs = OPERATIONS[name], model().operation_model(name).http

    assert (ours.method, ours.path, ours.status) == (
        theirs["method"],
        theirs["requestUri"],
        theirs.get("responseCode", 200),
    )


def test_the_runtimes_are_those_of_the_service_model() -> None:
    assert list(RUNTIMES) == model().shape_for("Runtime").enum


def assert_known(shape: Any, value: Any, path: str) -> None:
    """Every member of an answer is in the model, with its type and, for enums, one of its values."""
    if shape.type_name == "structure":
        for key, inner in value.items():
            assert key in shape.members, f"{path}.{key} is not in the model"
            assert_known(shape.members[key], inner, f"{path}.{key}")
    elif shape.type_name == "list":
        for inner in value:
            assert_known(shape.member, inner, f"{path}[]")
    elif shape.type_name == "map":
        assert all(isinstance(inner, str) for inner in value.values()), path
    elif shape.type_name == "string":
        assert isinstance(value, str), path
        assert not shape.enum or value in shape.enum, f"{path}: {value}"
    else:
        assert isinstance(value, bool if shape.type_name == "boolean" else int), path


def raw_json(api: ApiServer, path: str) -> Any:
    return httpx.get(f"{api.url}{path}").json()


def test_raw_answers_have_only_members_of_the_model(api: ApiServer, client: Any) -> None:
    api.prepares_by_itself = False
    create(
        client,
        Environment={"Variables": {"KEY": "v"}},
        Tags={"a": "b"},
        VpcConfig={"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"]},
        DeadLetterConfig={"TargetArn": "arn:aws:sqs:us-east-1:000000000000:q"},
        LoggingConfig={"LogFormat": "JSON"},
    )
    paths = {
        "GetFunction": "/2015-03-31/functions/hello",
        "GetFunctionConfiguration": "/2015-03-31/functions/hello/configuration",
        "ListFunctions": "/2015-03-31/functions/?FunctionVersion=ALL",
        "ListVersionsByFunction": "/2015-03-31/functions/hello/versions",
        "GetFunctionConcurrency": "/2019-09-30/functions/hello/concurrency",
        "GetAccountSettings": "/2016-08-19/account-settings/",
    }

    def check() -> None:
        for name, path in paths.items():
            assert_known(model().operation_model(name).output_shape, raw_json(api, path), name)

    check()
    api.prepare()
    client.put_function_concurrency(FunctionName="hello", ReservedConcurrentExecutions=3)
    client.update_function_configuration(FunctionName="hello", Timeout=9)
    check()
    api.failure = PreparationFailure(reason_code="InvalidRuntime", reason="not here")
    api.prepare()
    check()


def test_a_function_is_pending_until_it_is_active(api: ApiServer, client: Any) -> None:
    api.prepares_by_itself = False

    made = create(client)
    assert made["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert (made["State"], made["StateReasonCode"]) == ("Pending", "Creating")
    assert made["CodeSha256"] == base64.b64encode(hashlib.sha256(zip_of()).digest()).decode()
    assert made["FunctionArn"] == "arn:aws:lambda:us-east-1:000000000000:function:hello"
    for call in (client.update_function_configuration, client.publish_version):
        status, code, text = refused(call, FunctionName="hello")
        assert (status, code) == (409, "ResourceConflictException")
        assert text.endswith("The function is currently in the following state: Pending")

    api.prepare()
    shown = client.get_function_configuration(FunctionName="hello")
    assert (shown["State"], shown["LastUpdateStatus"]) == ("Active", "Successful")
    assert "StateReason" not in shown
    assert shown["RevisionId"] != made["RevisionId"]


def test_defaults_are_those_of_lambda(client: Any) -> None:
    shown = ready(client)

    assert (shown["Timeout"], shown["MemorySize"], shown["Description"]) == (3, 128, "")
    assert shown["TracingConfig"] == {"Mode": "PassThrough"}
    assert shown["EphemeralStorage"] == {"Size": 512}
    assert shown["LoggingConfig"] == {"LogFormat": "Text", "LogGroup": "/aws/lambda/hello"}
    assert shown["SnapStart"] == {"ApplyOn": "None", "OptimizationStatus": "Off"}
    assert (shown["PackageType"], shown["Architectures"], shown["Version"]) == ("Zip", ["x86_64"], "$LATEST")
    assert "Environment" not in shown


def test_get_function_has_code_tags_and_concurrency(api: ApiServer, client: Any) -> None:
    ready(client, Tags={"team": "blue"})
    client.put_function_concurrency(FunctionName="hello", ReservedConcurrentExecutions=4)

    shown = client.get_function(FunctionName="hello", Qualifier="$LATEST")

    assert shown["Tags"] == {"team": "blue"}
    assert shown["Concurrency"] == {"ReservedConcurrentExecutions": 4}
    assert shown["Configuration"]["FunctionArn"].endswith(":hello:$LATEST")
    link = shown["Code"]["Location"]
    assert httpx.get(link).content == zip_of()
    assert httpx.get(link[:-1] + ("0" if link[-1] != "0" else "1")).status_code == 403
    assert httpx.get(link.replace("expires=", "expires=9")).status_code == 403


def test_an_update_serves_the_old_release_until_it_succeeds(api: ApiServer, client: Any) -> None:
    before = ready(client)
    api.prepares_by_itself = False

    shown = client.update_function_code(FunctionName="hello", ZipFile=zip_of("x = 1\n"))

    assert (shown["State"], shown["LastUpdateStatus"]) == ("Active", "InProgress")
    assert shown["CodeSha256"] != before["CodeSha256"]
    status, code, text = refused(client.update_function_configuration, FunctionName="hello", Timeout=5)
    assert (status, code) == (409, "ResourceConflictException")
    assert text == (
        "The operation cannot be performed at this time. An update is in progress for resource:"
        " arn:aws:lambda:us-east-1:000000000000:function:hello"
    )
    api.prepares_by_itself = True
    client.get_waiter("function_updated_v2").wait(FunctionName="hello", WaiterConfig=FAST)


def test_a_failed_update_is_told_and_can_be_mended(api: ApiServer, client: Any) -> None:
    ready(client)
    api.failure = PreparationFailure(reason_code="InvalidRuntime", reason="This installation has no image for go1.x.")
    client.update_function_configuration(FunctionName="hello", Runtime="go1.x")
    with pytest.raises(WaiterError):
        client.get_waiter("function_updated_v2").wait(FunctionName="hello", WaiterConfig=FAST)

    shown = client.get_function_configuration(FunctionName="hello")
    assert (shown["State"], shown["LastUpdateStatus"]) == ("Active", "Failed")
    assert shown["LastUpdateStatusReasonCode"] == "InvalidRuntime"

    api.failure = None
    client.update_function_configuration(FunctionName="hello", Runtime="python3.12")
    client.get_waiter("function_updated_v2").wait(FunctionName="hello", WaiterConfig=FAST)


def test_a_failed_function_becomes_active_by_an_update(api: ApiServer, client: Any) -> None:
    api.failure = PreparationFailure(reason_code="InvalidRuntime", reason="no")
    create(client, Runtime="go1.x")
    with pytest.raises(WaiterError):
        client.get_waiter("function_active_v2").wait(FunctionName="hello", WaiterConfig=FAST)
    assert client.get_function_configuration(FunctionName="hello")["State"] == "Failed"

    api.failure = None
    client.update_function_configuration(FunctionName="hello", Runtime="python3.13")
    client.get_waiter("function_active_v2").wait(FunctionName="hello", WaiterConfig=FAST)


def test_configuration_changes_only_what_is_named(client: Any) -> None:
    ready(client, Timeout=7, Environment={"Variables": {"KEEP": "1"}})

    client.update_function_configuration(FunctionName="hello", MemorySize=256, Environment={"Variables": {}})
    client.get_waiter("function_updated_v2").wait(FunctionName="hello", WaiterConfig=FAST)

    shown = client.get_function_configuration(FunctionName="hello")
    assert (shown["MemorySize"], shown["Timeout"], shown["Environment"]) == (256, 7, {"Variables": {}})


def test_a_dry_run_checks_and_changes_nothing(client: Any) -> None:
    before = ready(client)

    tried = client.update_function_code(FunctionName="hello", ZipFile=zip_of("y = 2\n"), DryRun=True)

    assert tried["CodeSha256"] != before["CodeSha256"]
    after = client.get_function_configuration(FunctionName="hello")
    assert (after["CodeSha256"], after["RevisionId"]) == (before["CodeSha256"], before["RevisionId"])
    assert refused(client.update_function_code, FunctionName="hello", ZipFile=b"no", DryRun=True)[0] == 400


def test_a_stale_revision_is_refused_everywhere(client: Any) -> None:
    ready(client)
    calls = (
        (client.update_function_code, {"ZipFile": zip_of()}),
        (client.update_function_configuration, {"Timeout": 4}),
        (client.publish_version, {}),
    )
    for call, arguments in calls:
        status, code, text = refused(call, FunctionName="hello", RevisionId="stale", **arguments)
        assert (status, code) == (412, "PreconditionFailedException")
        assert text.startswith("The Revision Id provided does not match the latest Revision Id.")


def test_versions_are_published_once_per_change_and_numbers_never_return(client: Any) -> None:
    ready(client)
    first = client.publish_version(FunctionName="hello", Description="one")
    again = client.publish_version(FunctionName="hello")
    assert (first["Version"], first["Description"], first["State"]) == ("1", "one", "Active")
    assert again["Version"] == "1"
    assert first["FunctionArn"].endswith(":hello:1")

    client.delete_function(FunctionName="hello", Qualifier="1")
    second = client.publish_version(FunctionName="hello")

    assert second["Version"] == "2"
    assert refused(client.get_function, FunctionName="hello:1")[0] == 404
    status, code, text = refused(client.publish_version, FunctionName="hello", CodeSha256="other")
    assert (status, code) == (400, "InvalidParameterValueException")
    assert "is different from current CodeSHA256" in text


def test_publishing_with_create_and_update_prepares_the_version_too(client: Any) -> None:
    made = create(client, Publish=True)
    assert (made["Version"], made["State"]) == ("1", "Pending")
    client.get_waiter("published_version_active").wait(FunctionName="hello", Qualifier="1", WaiterConfig=FAST)
    client.get_waiter("function_active_v2").wait(FunctionName="hello", WaiterConfig=FAST)

    updated = client.update_function_code(FunctionName="hello", ZipFile=zip_of("z = 3\n"), Publish=True)

    assert updated["Version"] == "2"
    client.get_waiter("published_version_active").wait(FunctionName="hello", Qualifier="2", WaiterConfig=FAST)
    client.get_waiter("function_updated_v2").wait(FunctionName="hello", WaiterConfig=FAST)
    pages = client.get_paginator("list_versions_by_function").paginate(
        FunctionName="hello", PaginationConfig={"PageSize": 1}
    )
    assert [one["Version"] for page in pages for one in page["Versions"]] == ["$LATEST", "1", "2"]


@pytest.mark.parametrize(
    "members", [{"Description": "a\0"}, {"Environment": {"Variables": {"AB": "\0"}}}, {"Tags": {"\0": "b"}}]
)
def test_a_nul_character_is_refused_wherever_it_is(client: Any, members: dict[str, Any]) -> None:
    assert refused(create, client=client, name="hello", **members)[:2] == (400, "SerializationException")
    assert client.list_functions()["Functions"] == []


def test_a_nul_character_s_escape_is_text_like_any_other(client: Any) -> None:
    assert create(client, Description="\\u0000")["Description"] == "\\u0000"


def test_functions_are_listed_in_pages(client: Any) -> None:
    for number in range(5):
        ready(client, f"f{number}")
    client.publish_version(FunctionName="f1")

    pages = list(client.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 2}))
    everything = client.get_paginator("list_functions").paginate(
        FunctionVersion="ALL", PaginationConfig={"PageSize": 1}
    )

    assert [one["FunctionName"] for page in pages for one in page["Functions"]] == ["f0", "f1", "f2", "f3", "f4"]
    assert [len(page["Functions"]) for page in pages] == [2, 2, 1]
    assert "State" not in pages[0]["Functions"][0]
    arns = [one["FunctionArn"].rpartition("function:")[2] for page in everything for one in page["Functions"]]
    assert arns == ["f0:$LATEST", "f1:$LATEST", "f1:1", "f2:$LATEST", "f3:$LATEST", "f4:$LATEST"]
    assert refused(client.list_functions, Marker="garbage")[0] == 400


def test_a_deleted_function_is_gone_for_everybody(api: ApiServer, client: Any) -> None:
    ready(client)
    uid = next(iter(api.directory.heads))

    answer = client.delete_function(FunctionName="hello")

    expected = model().operation_model("DeleteFunction").http["responseCode"]
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == expected == answer["StatusCode"]
    assert api.directory.retired == [uid]
    status, code, text = refused(client.get_function, FunctionName="hello", Qualifier="7")
    assert (status, code) == (404, "ResourceNotFoundException")
    assert text == "Function not found: arn:aws:lambda:us-east-1:000000000000:function:hello:7"
    create(client)


def test_reserved_concurrency_reaches_admission_before_the_answer(api: ApiServer, client: Any) -> None:
    ready(client)
    uid = next(iter(api.directory.heads))

    assert "ReservedConcurrentExecutions" not in client.get_function_concurrency(FunctionName="hello")
    client.put_function_concurrency(FunctionName="hello", ReservedConcurrentExecutions=0)
    assert api.directory.heads[uid].reserved_concurrency == 0
    assert client.get_function_concurrency(FunctionName="hello")["ReservedConcurrentExecutions"] == 0
    status, _, text = refused(client.put_function_concurrency, FunctionName="hello", ReservedConcurrentExecutions=901)
    assert status == 400
    assert text == (
        "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below"
        " its minimum value of [100]."
    )
    client.put_function_concurrency(FunctionName="hello", ReservedConcurrentExecutions=900)
    assert client.get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"] == 100
    assert client.delete_function_concurrency(FunctionName="hello")["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert api.directory.heads[uid].reserved_concurrency is None


def test_accounts_and_regions_share_nothing(api: ApiServer, client: Any) -> None:
    ready(client)
    other, elsewhere = api.client(account="111111111111"), api.client(region="eu-west-1")

    assert other.list_functions()["Functions"] == []
    assert elsewhere.list_functions()["Functions"] == []
    assert ":eu-west-1:000000000000:" in create(elsewhere)["FunctionArn"]
    arn = "arn:aws:lambda:us-east-1:000000000000:function:hello"
    assert refused(other.get_function, FunctionName=arn)[:2] == (403, "AccessDeniedException")
    status, code, text = refused(elsewhere.get_function, FunctionName=arn)
    assert (status, code) == (404, "ResourceNotFoundException")
    assert text == "Functions from 'us-east-1' are not reachable in this region ('eu-west-1')"


def test_every_form_of_a_name_finds_the_function(client: Any) -> None:
    ready(client)
    client.publish_version(FunctionName="hello")
    arn = "arn:aws:lambda:us-east-1:000000000000:function:hello"

    for name in ("hello", "000000000000:function:hello", arn):
        assert client.get_function_configuration(FunctionName=name)["Version"] == "$LATEST"
        assert client.get_function_configuration(FunctionName=f"{name}:1")["Version"] == "1"
    status, _, text = refused(client.get_function, FunctionName=f"{arn}:1", Qualifier="2")
    assert (status, text) == (
        400,
        "The derived qualifier from the function name does not match the specified qualifier.",
    )


BAD = [
    (
        {"Timeout": 0},
        "ValidationException",
        "at 'timeout' failed to satisfy constraint: Member must have value greater",
    ),
    ({"Timeout": 901}, "ValidationException", "less than or equal to 900"),
    ({"MemorySize": 127}, "ValidationException", "Value '127' at 'memorySize'"),
    ({"MemorySize": 10241}, "ValidationException", "less than or equal to 10240"),
    ({"Handler": "a b"}, "ValidationException", "Value 'a b' at 'handler'"),
    ({"Role": "nobody"}, "ValidationException", "Value 'nobody' at 'role'"),
    ({"Role": None}, "ValidationException", "Value null at 'role'"),
    ({"Description": "d" * 257}, "ValidationException", "at 'description'"),
    ({"Architectures": ["mips"]}, "ValidationException", "[x86_64, arm64]"),
    ({"EphemeralStorage": {"Size": 511}}, "ValidationException", "ephemeralStorage.size"),
    ({"Environment": {"Variables": {"1A": "x"}}}, "ValidationException", "Value at 'environment.variables'"),
    ({"name": "a b"}, "ValidationException", "at 'functionName'"),
    ({"name": "a" * 65}, "ValidationException", "less than or equal to 64"),
    ({"Timeout": 0, "MemorySize": 1}, "ValidationException", "2 validation errors detected: "),
    ({"Runtime": "haskell"}, "InvalidParameterValueException", "Value haskell at 'runtime' failed to satisfy"),
    ({"Runtime": None}, "InvalidParameterValueException", "Runtime and Handler are mandatory"),
    ({"Environment": {"Variables": {"AWS_REGION": "x"}}}, "InvalidParameterValueException", "request: AWS_REGION"),
    ({"Environment": {"Variables": {"BIG": "x" * 4096}}}, "InvalidParameterValueException", "exceeded the 4KB limit"),
    ({"Code": {"ZipFile": b"no zip"}}, "InvalidParameterValueException", "Could not unzip uploaded file."),
    ({"Code": {"S3Bucket": "bucket", "S3Key": "k"}}, "InvalidParameterValueException", "ZipFile"),
    ({"Code": {}}, "InvalidParameterValueException", "source"),
    ({"PackageType": "Image"}, "InvalidParameterValueException", "Please don't provide Handler or Runtime or Layer"),
    ({"Layers": ["x"] * 6}, "InvalidParameterValueException", "Cannot reference more than 5 layers."),
    ({"Timeout": "soon"}, "SerializationException", "Timeout"),
]


@pytest.mark.parametrize(("changes", "code", "text"), BAD)
def test_bad_input_gets_the_answer_of_aws(api: ApiServer, changes: dict[str, Any], code: str, text: str) -> None:
    client = api.client(validates=False)

    status, actual, message = refused(create, client=client, **{"name": "hello", **changes})

    assert (status, actual) == (400, code)
    assert text in message


def test_an_existing_name_is_a_conflict(client: Any) -> None:
    create(client)

    assert refused(lambda: create(client)) == (409, "ResourceConflictException", "Function already exist: hello")


def test_error_bodies_use_the_key_of_their_shape(api: ApiServer) -> None:
    missing = httpx.get(f"{api.url}/2015-03-31/functions/none")
    stale = httpx.get(f"{api.url}/2015-03-31/functions", params={"MaxItems": "0"})

    assert missing.json() == {
        "Type": "User",
        "Message": "Function not found: arn:aws:lambda:us-east-1:000000000000:function:none",
    }
    assert stale.json()["message"].startswith("1 validation error detected")


def test_unknown_paths_and_methods_are_refused_in_the_shape_of_aws(api: ApiServer) -> None:
    unknown, method = httpx.get(f"{api.url}/2015-03-31/nothing"), httpx.patch(f"{api.url}/2015-03-31/functions")

    assert (unknown.status_code, unknown.headers["x-amzn-ErrorType"]) == (404, "UnknownOperationException")
    assert (method.status_code, method.headers["x-amzn-ErrorType"]) == (405, "MethodNotAllowedException")
    assert unknown.headers["x-amzn-RequestId"] != method.headers["x-amzn-RequestId"]


def test_what_is_not_json_is_refused(api: ApiServer) -> None:
    answer = httpx.post(f"{api.url}/2015-03-31/functions", content=b"{nope")

    assert (answer.status_code, answer.headers["x-amzn-ErrorType"]) == (400, "InvalidRequestContentException")
    assert answer.json()["message"].startswith("Could not parse request body into json: ")


def test_foreign_hosts_and_origins_are_refused(api: ApiServer) -> None:
    def status(**headers: str) -> int:
        return httpx.get(f"{api.url}/2015-03-31/functions", headers=headers).status_code

    assert status(Host="evil.example.com") == 403
    assert status(Host="localhost.evil.example.com") == 403
    assert status(Origin="https://evil.example.com") == 403
    assert status(Origin="null") == 403
    for host in ("localhost", "LOCALHOST:80", "127.0.0.1:1", "[::1]:4566", "[::1]", "lambda.example.org:8443"):
        assert status(Host=host) == 200
    assert status(Origin="https://console.example.org") == 200


def test_a_body_over_the_limit_is_refused_declared_or_chunked(api: ApiServer) -> None:
    declared = http.client.HTTPConnection("127.0.0.1", api.port, timeout=10)
    declared.putrequest("POST", "/2015-03-31/functions")
    declared.putheader("Content-Length", str(71 * 1024 * 1024))
    declared.endheaders()
    answer = declared.getresponse()
    assert (answer.status, answer.headers["x-amzn-ErrorType"]) == (413, "RequestTooLargeException")
    declared.close()

    chunked = http.client.HTTPConnection("127.0.0.1", api.port, timeout=10)
    chunk = b"x" * (8 * 1024 * 1024)
    try:
        chunked.request("POST", "/2015-03-31/functions", body=(chunk for _ in range(10)), encode_chunked=True)
        status = chunked.getresponse().status
    except (BrokenPipeError, ConnectionResetError):
        status = 413  # the answer came, and the connection was closed, while we were still sending
    assert status == 413
    chunked.close()


def test_a_failure_of_ours_is_a_500_with_the_request_id(api: ApiServer, caplog: pytest.LogCaptureFixture) -> None:
    create(api.client())
    api.directory.failure = RuntimeError("the directory is away")

    answer = httpx.delete(f"{api.url}/2015-03-31/functions/hello")

    assert (answer.status_code, answer.headers["x-amzn-ErrorType"]) == (500, "ServiceException")
    assert answer.headers["x-amzn-RequestId"] in answer.json()["Message"]
    assert "the directory is away" not in answer.text
    (line,) = [record for record in caplog.records if record.message == "request failed"]
    assert line.__dict__["request_id"] == answer.headers["x-amzn-RequestId"]


def test_health_tells_of_each_part(api: ApiServer) -> None:
    async def broken() -> None:
        raise ConnectionError("refused")

    async def well() -> None:
        return

    api.probes["database"] = well
    assert httpx.get(f"{api.url}/health").json() == {"status": "ok", "parts": {"database": "ok"}}
    api.probes["redis"] = broken
    answer = httpx.get(f"{api.url}/_localstack/health")
    assert answer.status_code == 503
    assert answer.json()["parts"] == {"database": "ok", "redis": "ConnectionError: refused"}


def test_the_openapi_document_lists_every_operation(api: ApiServer) -> None:
    document = json.loads(httpx.get(f"{api.url}/_lambdock/openapi.json").text)

    named = {operation.get("operationId") for path in document["paths"].values() for operation in path.values()}
    assert set(OPERATIONS) <= named
