"""Functions that several files of this folder share; they are cheap to call and hold nothing."""

from __future__ import annotations

import pytest

from tests.conformance.calls import deploy
from tests.platform_under_test import Platform

ECHO = """
def handler(event, context):
    return event
"""

#: Tells what it was given: context, environment, and where it runs.
TELL = """
import os, sys
COUNT = 0
def handler(event, context):
    global COUNT
    COUNT += 1
    client = context.client_context
    return {
        "event": event,
        "count": COUNT,
        "stream": context.log_stream_name,
        "context": {
            "function_name": context.function_name,
            "function_version": context.function_version,
            "invoked_function_arn": context.invoked_function_arn,
            "memory_limit_in_mb": context.memory_limit_in_mb,
            "aws_request_id": context.aws_request_id,
            "log_group_name": context.log_group_name,
            "log_stream_name": context.log_stream_name,
            "remaining_ms": context.get_remaining_time_in_millis(),
            "client": client and {"custom": client.custom, "env": client.env, "title": client.client.app_title},
        },
        "environment": dict(os.environ),
        "path": sys.path,
    }
"""


@pytest.fixture(scope="session")
def echo(platform: Platform) -> str:
    """A function that returns its event."""
    return deploy(platform, ECHO)


@pytest.fixture(scope="session")
def tell(platform: Platform) -> str:
    """A function that tells what it was given."""
    return deploy(platform, TELL, MemorySize=256, Timeout=7, Environment={"Variables": {"GREETING": "hällo"}})
