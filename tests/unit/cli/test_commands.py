from __future__ import annotations

import base64
import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.app import app
from tests.unit.cli.conftest import Answer, FakePlatform, Request

runner = CliRunner()


def run(*arguments: str, stdin: str | None = None) -> Any:
    return runner.invoke(app, list(arguments), input=stdin)


def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def invoked(body: Any, **headers: str) -> Callable[[Request], Answer]:
    return lambda _: Answer(200, body, {name.replace("_", "-"): value for name, value in headers.items()})


@pytest.mark.parametrize("command", ["serve", "deploy", "push", "images", "invoke", "logs", "list", "health", "delete"])
def test_every_command_has_help_with_an_example(command: str) -> None:
    result = run(command, "--help")

    assert result.exit_code == 0
    assert "Example:" in result.output


def test_help_loads_nothing_heavy() -> None:
    heavy = "{'boto3', 'botocore', 'httpx', 'pydantic', 'redis', 'asyncio', 'rich'}"
    script = f"import sys, cli.app; print(sorted({heavy} & set(sys.modules)))"

    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout

    assert loaded == "[]\n"


@pytest.mark.parametrize("arguments", [("list",), ("health",), ("logs", "f"), ("invoke", "f"), ("delete", "f")])
def test_a_silent_endpoint_is_named_with_how_to_start_the_platform(arguments: tuple[str, ...]) -> None:
    endpoint = f"http://127.0.0.1:{closed_port()}"

    result = run(*arguments, "--endpoint", endpoint)

    assert result.exit_code == 1
    assert f"nothing answers at {endpoint}" in result.stderr
    assert "lambdock serve" in result.stderr


@pytest.mark.parametrize("command", ["list", "health"])
def test_an_endpoint_that_is_no_url_is_wrong_usage(command: str) -> None:
    result = run(command, "--endpoint", "localhost:4566")

    assert result.exit_code == 2
    assert "'localhost:4566'" in result.stderr


def test_invoke_prints_the_result_to_stdout_and_the_report_to_stderr(platform: FakePlatform) -> None:
    log = "START RequestId: 1 Version: $LATEST\nhello\nEND RequestId: 1\nREPORT RequestId: 1\tDuration: 1.00 ms\n"
    platform.answer = invoked({"a": 1}, X_Amz_Log_Result=base64.b64encode(log.encode()).decode())

    result = run("invoke", "f", "--payload", '{"x": 1}', "--qualifier", "live")

    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"a": 1}
    assert "hello\nREPORT RequestId: 1" in result.stderr
    assert "START" not in result.stderr
    request = platform.requests[0]
    assert request.path == "/2015-03-31/functions/f/invocations?Qualifier=live"
    assert request.body == b'{"x": 1}'
    assert request.headers["x-amz-log-type"] == "Tail"
    assert "Credential=test/" in request.headers["authorization"]
    assert "/us-east-1/lambda/" in request.headers["authorization"]


def test_invoke_ends_with_1_when_the_function_failed(platform: FakePlatform) -> None:
    error = {"errorType": "ValueError", "errorMessage": "no", "stackTrace": ["  File a, line 1\n"]}
    platform.answer = invoked(error, X_Amz_Function_Error="Unhandled")

    result = run("invoke", "f")

    assert result.exit_code == 1
    assert result.stdout == "ValueError: no\n  File a, line 1\n"


def test_invoke_json_holds_everything_on_one_line(platform: FakePlatform) -> None:
    platform.answer = invoked(b"null", X_Amz_Function_Error="Unhandled", X_Amz_Executed_Version="3")

    result = run("invoke", "f", "--json", "--no-tail")

    assert result.exit_code == 1
    assert json.loads(result.stdout) == {
        "status_code": 200,
        "request_id": "req-1",
        "executed_version": "3",
        "function_error": "Unhandled",
        "payload": None,
        "log": [],
    }


def test_invoke_event_tells_the_request(platform: FakePlatform) -> None:
    platform.answer = lambda _: Answer(202)

    result = run("invoke", "f", "--event")

    assert result.exit_code == 0
    assert result.stdout == "Queued as request req-1.\n"
    assert platform.requests[0].headers["x-amz-invocation-type"] == "Event"


def test_a_failing_platform_is_asked_only_once(platform: FakePlatform) -> None:
    platform.answer = lambda _: Answer(500, {"Message": "boom"}, {"x-amzn-errortype": "ServiceException"})

    result = run("invoke", "f")

    assert result.exit_code == 1
    assert result.stderr == "error: ServiceException: boom (request req-1)\n"
    assert len(platform.requests) == 1


def test_payload_comes_from_a_file_or_standard_input(platform: FakePlatform, tmp_path: Path) -> None:
    platform.answer = invoked(1)
    (tmp_path / "event.json").write_text("[1]")

    assert run("invoke", "f", "-p", f"@{tmp_path / 'event.json'}").exit_code == 0
    assert run("invoke", "f", "-p", "-", stdin="[2]").exit_code == 0

    assert [request.body for request in platform.requests] == [b"[1]", b"[2]"]


@pytest.mark.parametrize("payload", ["{not json", "@/nonexistent/file", ""])
def test_a_payload_that_is_not_json_is_wrong_usage(platform: FakePlatform, payload: str) -> None:
    result = run("invoke", "f", "--payload", payload)

    assert result.exit_code == 2
    assert "payload" in result.stderr
    assert platform.requests == []


def test_list_reads_every_page_and_sorts_by_name(platform: FakePlatform) -> None:
    def pages(request: Request) -> Answer:
        if "Marker=next" in request.path:
            return Answer(200, {"Functions": [{"FunctionName": "alpha", "Runtime": "python3.11"}]})
        return Answer(200, {"Functions": [{"FunctionName": "beta", "MemorySize": 128}], "NextMarker": "next"})

    platform.answer = pages

    table, machine = run("list"), run("list", "--json")

    assert table.stdout.index("alpha") < table.stdout.index("beta")
    assert [json.loads(line)["FunctionName"] for line in machine.stdout.splitlines()] == ["alpha", "beta"]


def test_delete_tells_aws_error_of_an_unknown_function(platform: FakePlatform) -> None:
    answer = Answer(404, {"Message": "Function not found: x"}, {"x-amzn-errortype": "ResourceNotFoundException"})
    platform.answer = lambda _: answer

    result = run("delete", "x")

    assert result.exit_code == 1
    assert "ResourceNotFoundException: Function not found: x" in result.stderr


def test_health_ends_with_1_when_the_platform_is_not_well(platform: FakePlatform) -> None:
    platform.answer = lambda _: Answer(503, {"status": "degraded", "workers": []})

    assert run("health").exit_code == 1


def test_health_tells_a_foreign_program_from_the_platform(platform: FakePlatform) -> None:
    platform.answer = lambda _: Answer(200, b"<html>")

    result = run("health")

    assert result.exit_code == 1
    assert "another program" in result.stderr


def test_logs_prints_events_with_their_times(platform: FakePlatform) -> None:
    events = [{"timestamp": 1_700_000_000_123, "stream": "s", "message": "one\x1b[31m\n"}]
    platform.answer = lambda _: Answer(200, {"events": events, "cursor": "c1"})

    result = run("logs", "my fn", "--limit", "5", "--since", "10m")

    assert result.stdout == "2023-11-14 22:13:20.123Z one\\x1b[31m\n"
    assert platform.requests[0].path.startswith("/_lambdock/logs/my%20fn?limit=5&since_ms=")


def test_logs_are_those_of_the_configured_account_and_region(
    platform: FakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "111111111111")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    platform.answer = lambda _: Answer(200, {"events": [], "cursor": "c1"})

    run("logs", "f")

    signed = {name.lower(): value for name, value in platform.requests[0].headers.items()}["authorization"]
    assert "Credential=111111111111/" in signed
    assert "/eu-west-1/lambda/" in signed


def test_logs_follow_goes_on_at_the_cursor(platform: FakePlatform) -> None:
    answers = iter([
        Answer(200, {"events": [{"timestamp": 0, "message": "one"}], "cursor": "c1"}),
        Answer(200, {"events": [{"timestamp": 0, "message": "two"}], "cursor": "c2"}),
    ])  # fmt: skip

    forgotten = Answer(404, {"message": "Function not found: f"}, {"x-amzn-errortype": "ResourceNotFoundException"})
    platform.answer = lambda _: next(answers, forgotten)

    result = run("logs", "f", "--follow")

    assert result.exit_code == 1
    assert "ResourceNotFoundException: Function not found: f" in result.stderr
    assert "one" in result.stdout
    assert "two" in result.stdout
    assert [path.partition("?")[2] for path in platform.asked("GET")][:2] == ["limit=1000", "limit=1000&cursor=c1"]


def test_logs_refuses_an_age_that_is_none() -> None:
    result = run("logs", "f", "--since", "yesterday")

    assert result.exit_code == 2
    assert "'yesterday'" in result.stderr
