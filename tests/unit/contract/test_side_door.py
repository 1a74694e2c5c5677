from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.side_door import api_target
from controller.api.operations import OPERATIONS
from controller.invocation.routes import INVOKE_PATH


@pytest.mark.parametrize(
    ("given_target", "passed"),
    [
        (b"/2015-03-31/functions", "/2015-03-31/functions"),
        (b"/2015-03-31/functions/", "/2015-03-31/functions"),
        (b"/2015-03-31/functions?MaxItems=2", "/2015-03-31/functions?MaxItems=2"),
        (b"/2015-03-31/functions/f:%24LATEST/invocations", "/2015-03-31/functions/f%3A%24LATEST/invocations"),
        (
            b"/2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3Af/invocations",
            "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3Af/invocations",
        ),
        (b"/2015-03-31/functions/caf%C3%A9", "/2015-03-31/functions/caf%C3%A9"),
        # A query is never a path.
        (b"/2015-03-31/functions?Marker=/../_lambdock/x", "/2015-03-31/functions?Marker=/../_lambdock/x"),
    ],
)
def test_paths_of_the_lambda_api_are_passed_on_in_one_spelling(given_target: bytes, passed: str) -> None:
    assert api_target(given_target) == passed


@pytest.mark.parametrize(
    "target",
    [
        b"",
        b"*",
        b"/",
        b"/health",
        b"/_localstack/health",
        b"/_lambdock/openapi.json",
        b"/_lambdock/logs/f",
        b"/_lambdock/images",
        b"//_lambdock/images",
        b"/2015-03-31",
        b"/2015-03-31/",
        b"/2015-03-31//functions",
        b"/2015-03-31/../_lambdock/openapi.json",
        b"/2015-03-31/%2e%2e/_lambdock/openapi.json",
        b"/2015-03-31/.%2E/health",
        b"/2015-03-31/%252e%252e/health",
        b"/2015-03-31/..%2f..%2fhealth",
        b"/2015-03-31/..\\..\\health",
        b"/2015-03-31/x%5c..%5c..%5chealth",
        b"/2015-03-31/./functions",
        b"/2015-03-31/functions/f%00",
        b"/2015-03-31/functions/f%0d%0aX-Lambdock-Token:x",
        b"/2015-03-31/functions/f\r\nHost: x",
        b"/2015-03-31/functions#/../../health",
        b"/x2015-03-31/functions",
        b"/2015-03-31x/functions",
        b"/%32015-03-31/../health",
        b"2015-03-31/functions",
        b"http://127.0.0.1:4566/2015-03-31/functions",
        b"/lambda/2015-03-31/functions",
        b"/2015-03-31/functions/caf\xc3\xa9",
        b"/2015-03-31/functions/a b",
    ],
)
def test_nothing_else_is(target: bytes) -> None:
    assert api_target(target) is None


def test_every_operation_is_passed_on() -> None:
    for path in (INVOKE_PATH, *(operation.path for operation in OPERATIONS.values())):
        concrete = path.replace("{", "").replace("}", "")
        assert api_target(concrete.encode()) == concrete, path


@given(st.binary(max_size=60))
def test_what_is_passed_on_reads_the_same_however_often_it_is_decoded(tail: bytes) -> None:
    passed = api_target(b"/2015-03-31/" + tail)
    if passed is None:
        return
    path = passed.partition("?")[0]
    for reading in (unquote(path), unquote(unquote(path))):
        assert reading.count("/") == path.count("/")
        assert not {"", ".", ".."} & set(reading[1:].split("/"))
    assert passed.isascii()
    assert passed.isprintable()
