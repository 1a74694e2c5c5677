"""What every managed runtime does alike, whatever the language."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.conformance.calls import arn, call, deploy, log_messages, wait_for_log
from tests.conformance.layer_zips import publish
from tests.conformance.runtimes.languages import LANGUAGES, Language
from tests.platform_under_test import Platform

SERVICE_LIMIT = 6_291_556
TIMEOUT_S = 2


@pytest.fixture(scope="module", params=LANGUAGES, ids=str)
def language(request: pytest.FixtureRequest) -> Language:
    return LANGUAGES[request.param]


@pytest.fixture(scope="module")
def function(platform: Platform, language: Language) -> str:
    return create(
        platform, language, Timeout=TIMEOUT_S, MemorySize=512, Environment={"Variables": {"GREETING": "hällo"}}
    )


def create(platform: Platform, language: Language, **parameters: Any) -> str:
    return deploy(platform, language.files, Runtime=language.runtime, **parameters)


@pytest.mark.parametrize(
    "event",
    [None, 7, "", "text", [], {}, [1, {"a": [None, True]}], {"schön": '日本 🐑 \x00 \u2028 " \\'}],
    ids=lambda event: json.dumps(event)[:12],
)
def test_any_json_comes_back_as_it_went(platform: Platform, function: str, event: Any) -> None:
    outcome = call(platform, function, event)

    assert (outcome.payload, outcome.error) == (event, None)


def test_payloads_just_below_the_limit_pass_both_ways(platform: Platform, function: str) -> None:
    event = {"text": "".join(f"{number:08x}" for number in range(6_000_000 // 8))}

    outcome = call(platform, function, event)

    assert outcome.error is None, outcome.raw[:500]
    assert outcome.payload == event


def test_an_answer_over_the_limit_is_an_error_and_the_next_invocation_works(platform: Platform, function: str) -> None:
    outcome = call(platform, function, {"do": "make", "characters": SERVICE_LIMIT // 2})

    assert outcome.payload["errorType"] == "Function.ResponseSizeTooLarge"
    assert call(platform, function, {"do": "make", "characters": 3}).payload == "üüü"


def test_an_error_has_type_message_and_trace_and_keeps_the_environment(
    platform: Platform, language: Language, function: str
) -> None:
    before = call(platform, function, {"do": "count"}).payload

    outcome = call(platform, function, {"do": "raise"})

    assert outcome.error == "Unhandled"
    assert (outcome.payload["errorType"], outcome.payload["errorMessage"]) == ("Sorry", "not today")
    trace = outcome.payload[language.trace]
    assert any("refuse" in frame and "/var/task/app." in frame for frame in trace), trace
    # The same is in the log, with the name of the error and the line it comes from.
    assert "Sorry" in outcome.tail
    assert "not today" in outcome.tail
    assert "/var/task/app." in outcome.tail
    after = call(platform, function, {"do": "count"}).payload
    assert (after["pid"], after["count"]) == (before["pid"], before["count"] + 2)


def test_a_time_out_ends_the_invocation_and_starts_again(platform: Platform, function: str) -> None:
    before = call(platform, function, {"do": "count"}).payload

    outcome = call(platform, function, {"do": "sleep", "seconds": 60})

    assert outcome.payload["errorType"] == "Sandbox.Timedout"
    assert outcome.payload["errorMessage"].endswith(f"Task timed out after {TIMEOUT_S}.00 seconds")
    assert "falling asleep" in outcome.tail
    after = call(platform, function, {"do": "count"}).payload
    assert (after["count"], after["stream"]) == (1, before["stream"])


@pytest.mark.parametrize(
    ("code", "text"), [(0, "without providing a reason"), (7, "with error: exit status 7")], ids=["0", "7"]
)
def test_an_exit_ends_the_invocation_and_starts_again(platform: Platform, function: str, code: int, text: str) -> None:
    outcome = call(platform, function, {"do": "exit", "code": code})

    assert outcome.payload["errorType"] == "Runtime.ExitError"
    assert outcome.payload["errorMessage"] == f"RequestId: {outcome.request_id} Error: Runtime exited {text}"
    assert "going" in outcome.tail
    assert call(platform, function, {"do": "count"}).payload["count"] == 1


def test_a_function_that_eats_its_memory_is_killed_and_starts_again(platform: Platform, language: Language) -> None:
    name = create(platform, language, Timeout=30, MemorySize=256)

    outcome = call(platform, name, {"do": "eat", "mb": 400})

    assert outcome.payload["errorType"] == "Runtime.OutOfMemory", outcome
    assert outcome.payload["errorMessage"].endswith("Runtime exited with error: signal: killed")
    assert call(platform, name, {"do": "count"}).payload["count"] == 1


def test_every_line_is_in_the_tail_in_order(platform: Platform, function: str) -> None:
    outcome = call(platform, function, {"do": "print", "lines": 40})

    start, *lines, end, report = outcome.tail.splitlines()
    assert start == f"START RequestId: {outcome.request_id} Version: $LATEST"
    assert [line.split("\t")[-1] for line in lines] == [f"line {number}" for number in range(40)]
    assert end == f"END RequestId: {outcome.request_id}"
    assert report.startswith(f"REPORT RequestId: {outcome.request_id}")


def test_the_context_has_every_field(platform: Platform, function: str) -> None:
    client_context = base64.b64encode(json.dumps({"custom": {"key": "välue"}}).encode()).decode()

    outcome = call(platform, function, {"do": "context"}, ClientContext=client_context)

    seen = outcome.payload
    assert seen["functionName"] == function
    assert seen["functionVersion"] == "$LATEST"
    assert seen["invokedFunctionArn"] == arn(function)
    assert seen["memoryLimitInMB"] == "512"
    assert seen["awsRequestId"] == outcome.request_id
    assert seen["logGroupName"] == f"/aws/lambda/{function}"
    assert "[$LATEST]" in seen["logStreamName"]
    assert 0 < seen["remainingMs"] <= TIMEOUT_S * 1000
    assert seen["custom"] == {"key": "välue"}


def test_the_environment_is_lambdas_and_the_functions(platform: Platform, language: Language, function: str) -> None:
    seen = call(platform, function, {"do": "environment"}).payload

    assert seen["GREETING"] == "hällo"
    assert seen["_HANDLER"] == "app.handler"
    assert seen["AWS_EXECUTION_ENV"] == f"AWS_Lambda_{language.runtime}"
    assert seen["AWS_LAMBDA_FUNCTION_NAME"] == function
    assert seen["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "512"
    assert seen["AWS_LAMBDA_FUNCTION_VERSION"] == "$LATEST"
    assert seen["AWS_LAMBDA_INITIALIZATION_TYPE"] == "on-demand"
    assert seen["AWS_REGION"] == seen["AWS_DEFAULT_REGION"] == "us-east-1"
    assert seen["LAMBDA_TASK_ROOT"] == "/var/task"
    assert seen["LAMBDA_RUNTIME_DIR"] == "/var/runtime"
    assert seen["TZ"] == ":UTC"
    assert seen["PATH"].startswith("/var/lang/bin:")


def test_state_lives_as_long_as_the_environment(platform: Platform, language: Language) -> None:
    name = create(platform, language)

    first, second, third = (call(platform, name, {"do": "count"}) for _ in range(3))

    assert [outcome.payload["count"] for outcome in (first, second, third)] == [1, 2, 3]
    assert len({(outcome.payload["pid"], outcome.payload["stream"]) for outcome in (first, second, third)}) == 1
    assert first.payload["uid"] == 993
    assert "Init Duration" in first.report
    assert "Init Duration" not in second.report
    # Said once, before the first invocation.
    said = [index for index, line in enumerate(wait_for_log(platform, name, "REPORT ", 3)) if "initialising" in line]
    starts = [index for index, line in enumerate(log_messages(platform, name)) if line.startswith("START ")]
    assert len(said) == 1
    assert said[0] < starts[0]


def test_an_error_of_the_initialisation_is_each_invocations_answer(platform: Platform, language: Language) -> None:
    name = create(platform, language, Environment={"Variables": {"FAIL": "raise"}})

    for _ in range(2):
        outcome = call(platform, name)

        assert outcome.error == "Unhandled"
        assert outcome.payload["errorType"] == language.raises_at_init
        assert "not to be initialised" in outcome.payload["errorMessage"]
        assert any("/var/task/app." in frame for frame in outcome.payload[language.trace])


def test_an_end_during_the_initialisation_is_each_invocations_answer(platform: Platform, language: Language) -> None:
    name = create(platform, language, Environment={"Variables": {"FAIL": "exit"}})

    for _ in range(2):
        outcome = call(platform, name)

        assert outcome.payload["errorType"] == "Runtime.ExitError"
        assert outcome.payload["errorMessage"].endswith("Runtime exited with error: exit status 3")
        assert "initialising" in outcome.tail


@pytest.mark.parametrize(
    ("handler", "kind"),
    [
        ("missing.handler", "Runtime.ImportModuleError"),
        ("app.missing", "Runtime.HandlerNotFound"),
        ("broken.handler", "Runtime.UserCodeSyntaxError"),
        ("app", "Runtime.MalformedHandlerName"),
    ],
)
def test_a_handler_that_is_not_there_is_named(platform: Platform, language: Language, handler: str, kind: str) -> None:
    (suffix,) = {path.rpartition(".")[2] for path in language.files}
    files = language.files | {f"broken.{suffix}": "function ( {[\n"}
    name = deploy(platform, files, Runtime=language.runtime, Handler=handler)

    outcome = call(platform, name)

    assert outcome.error == "Unhandled"
    assert outcome.payload["errorType"] == kind, outcome.payload


def test_libraries_are_found_in_layers_and_the_functions_own_come_first(platform: Platform, language: Language) -> None:
    layer = publish(platform, {language.layers_library: language.library.format("layer")})
    own = {language.own_library: language.library.format("own")}
    from_layer = create(platform, language, Layers=[layer])
    from_package = deploy(platform, language.files | own, Runtime=language.runtime, Layers=[layer])

    assert call(platform, from_layer, {"do": "import"}).payload == "layer"
    assert call(platform, from_package, {"do": "import"}).payload == "own"


def test_the_sdk_is_there_and_finds_its_credentials(platform: Platform, language: Language) -> None:
    # Loading it takes a second of a whole CPU.
    name = create(platform, language, Timeout=30, MemorySize=1024)

    url = call(platform, name, {"do": "sdk"}).payload

    assert str(url).startswith("https://"), url
    assert "AWSAccessKeyId=000000000000" in url or "X-Amz-Credential=000000000000" in url
