"""Invoke, with boto3, on the running platform."""

from __future__ import annotations

import json

from tests.platform_under_test import Platform

ECHO = "def handler(event, context):\n    return event\n"


def test_a_function_returns_its_event(platform: Platform) -> None:
    name = platform.create(ECHO)

    answer = platform.client().invoke(FunctionName=name, Payload=json.dumps({"a": 1}))

    assert answer["StatusCode"] == 200
    assert json.loads(answer["Payload"].read()) == {"a": 1}
    assert answer["ExecutedVersion"] == "$LATEST"
    assert "FunctionError" not in answer
