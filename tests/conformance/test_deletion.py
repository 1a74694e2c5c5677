"""What has been deleted does not run any more, though controllers and workers remember it."""

from __future__ import annotations

import json

import pytest
from botocore.exceptions import ClientError

from tests.platform_under_test import Platform, package

ANSWER = "def handler(event, context):\n    return '{}'\n"


def test_a_deleted_version_does_not_run_although_its_environment_was_warm(platform: Platform) -> None:
    name = platform.create(ANSWER.format("first"))
    client = platform.client()
    version = client.publish_version(FunctionName=name)["Version"]
    client.get_waiter("published_version_active").wait(FunctionName=name, Qualifier=version)
    warm = client.invoke(FunctionName=name, Qualifier=version)
    assert json.loads(warm["Payload"].read()) == "first"

    client.delete_function(FunctionName=name, Qualifier=version)

    with pytest.raises(ClientError, match="Function not found"):
        client.invoke(FunctionName=name, Qualifier=version)
    assert json.loads(client.invoke(FunctionName=name)["Payload"].read()) == "first"


def test_a_function_created_again_shares_nothing_with_the_deleted_one(platform: Platform) -> None:
    name = platform.create(ANSWER.format("old"))
    client = platform.client()
    client.invoke(FunctionName=name)

    client.delete_function(FunctionName=name)
    with pytest.raises(ClientError, match="Function not found"):
        client.invoke(FunctionName=name)
    platform.create(ANSWER.format("new"), name=name)

    assert json.loads(client.invoke(FunctionName=name)["Payload"].read()) == "new"


def test_environments_of_a_deleted_function_are_removed(platform: Platform) -> None:
    name = platform.create(ANSWER.format("x"))
    client = platform.client()
    client.invoke(FunctionName=name)

    def mine() -> list[object]:
        return [item for item in platform.containers() if item["Labels"].get("lambdock.function") == name]

    assert mine()
    client.delete_function(FunctionName=name)

    platform.wait_until(lambda: not mine(), "the environments are gone")


def test_updated_code_replaces_the_idle_environment(platform: Platform) -> None:
    name = platform.create(ANSWER.format("old"))
    client = platform.client()
    client.invoke(FunctionName=name)

    client.update_function_code(FunctionName=name, ZipFile=package(ANSWER.format("new")))
    client.get_waiter("function_updated_v2").wait(FunctionName=name)

    assert json.loads(client.invoke(FunctionName=name)["Payload"].read()) == "new"
