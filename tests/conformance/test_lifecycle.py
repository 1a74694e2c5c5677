"""From Pending to gone: the states of functions as botocore's waiters see them, and what can't be made ready."""

from __future__ import annotations

import platform as machine
from typing import Any

import pytest
from botocore.exceptions import WaiterError

from tests.conformance.calls import FAST, arn, call, deploy, nobody_prepares, publish, refusal, unique
from tests.platform_under_test import ROLE, RUNTIME, Platform, package

CODE = "def handler(event, context):\n    return {0}\n"


def create(platform: Platform, **parameters: Any) -> dict[str, Any]:
    wanted = {
        "FunctionName": f"f-{unique()[:12]}",
        "Role": ROLE,
        "Runtime": RUNTIME,
        "Handler": "app.handler",
        "Code": {"ZipFile": package(CODE.format(1))},
    } | parameters
    answer: dict[str, Any] = platform.client().create_function(**wanted)
    return answer


def failed(platform: Platform, name: str) -> dict[str, Any]:
    """Wait with botocore's own waiter until the function is Failed; return its configuration."""
    client = platform.client()
    with pytest.raises(WaiterError, match="terminal failure"):
        client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig=FAST)
    configuration: dict[str, Any] = client.get_function_configuration(FunctionName=name)
    assert configuration["State"] == "Failed"
    return configuration


def test_the_waiters_of_botocore_see_a_function_through_its_life(platform: Platform) -> None:
    client = platform.client()
    made = create(platform)
    name = made["FunctionName"]
    assert (made["State"], made["StateReasonCode"]) == ("Pending", "Creating")

    client.get_waiter("function_exists").wait(FunctionName=name, WaiterConfig=FAST)
    client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig=FAST)
    ready = client.get_function_configuration(FunctionName=name)
    assert (ready["State"], ready["LastUpdateStatus"]) == ("Active", "Successful")
    assert "StateReason" not in ready

    updated = client.update_function_code(FunctionName=name, ZipFile=package(CODE.format(2)))
    assert updated["LastUpdateStatus"] == "InProgress"
    client.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig=FAST)
    assert call(platform, name).payload == 2

    version = client.publish_version(FunctionName=name)["Version"]
    client.get_waiter("published_version_active").wait(FunctionName=name, Qualifier=version, WaiterConfig=FAST)
    assert call(platform, f"{name}:{version}").payload == 2


def test_while_an_update_is_in_progress_the_old_code_serves_and_a_second_one_is_refused(platform: Platform) -> None:
    name = deploy(platform, CODE.format(1))
    client = platform.client()

    with nobody_prepares(platform):
        client.update_function_code(FunctionName=name, ZipFile=package(CODE.format(2)))
        during = [call(platform, name).payload for _ in range(3)]
        answers = [
            refusal(client.update_function_code, FunctionName=name, ZipFile=package(CODE.format(3))),
            refusal(client.update_function_configuration, FunctionName=name, Timeout=9),
        ]

    assert during == [1, 1, 1]
    for answer in answers:
        assert (answer.status, answer.code) == (409, "ResourceConflictException")
        assert answer.message == (
            "The operation cannot be performed at this time. An update is in progress for resource: " + arn(name)
        )
    client.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig=FAST)
    assert call(platform, name).payload == 2


def test_a_published_version_keeps_its_code_and_configuration(platform: Platform) -> None:
    code = "import os\ndef handler(event, context):\n    return [{0}, os.environ['ERA'], context.memory_limit_in_mb]\n"
    name = deploy(
        platform,
        code.format(1),
        MemorySize=128,
        Environment={
            "Variables": {"ERA": "old"},
        },
    )
    client = platform.client()
    publish(platform, name)

    client.update_function_code(FunctionName=name, ZipFile=package(code.format(2)))
    client.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig=FAST)
    client.update_function_configuration(FunctionName=name, MemorySize=256, Environment={"Variables": {"ERA": "new"}})
    client.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig=FAST)

    assert call(platform, name).payload == [2, "new", "256"]
    assert call(platform, f"{name}:1").payload == [1, "old", "128"]


def test_the_other_architecture_is_a_failed_function_with_a_clear_reason(platform: Platform) -> None:
    other = "arm64" if machine.machine() == "x86_64" else "x86_64"
    made = create(platform, Architectures=[other])

    configuration = failed(platform, made["FunctionName"])

    assert configuration["StateReasonCode"] == "InvalidRuntime"
    assert other in configuration["StateReason"]
    assert machine.machine().replace("aarch64", "arm64") in configuration["StateReason"]
    answer = refusal(platform.client().invoke, FunctionName=made["FunctionName"])
    assert (answer.status, answer.code) == (409, "ResourceConflictException")
    assert answer.message.endswith("The function is currently in the following state: Failed")


@pytest.mark.parametrize("runtime", ["ruby3.4", "java21", "provided.al2023", "nodejs12.x"])
def test_a_runtime_that_can_not_be_had_names_the_image_to_supply(platform: Platform, runtime: str) -> None:
    made = create(platform, Runtime=runtime)

    configuration = failed(platform, made["FunctionName"])

    assert configuration["StateReasonCode"] == "InvalidRuntime"
    assert "LAMBDOCK_RUNTIME_IMAGES" in configuration["StateReason"]
    assert runtime in configuration["StateReason"]


def test_a_failed_function_can_be_repaired_and_deleted(platform: Platform) -> None:
    made = create(platform, Runtime="java21")
    name, client = made["FunctionName"], platform.client()
    failed(platform, name)

    client.update_function_configuration(FunctionName=name, Runtime=RUNTIME)
    client.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig=FAST)

    assert client.get_function_configuration(FunctionName=name)["State"] == "Active"
    assert call(platform, name).payload == 1
    client.delete_function(FunctionName=name)
    assert refusal(client.get_function, FunctionName=name).status == 404


def test_an_unknown_runtime_is_refused_in_the_words_of_aws(platform: Platform) -> None:
    answer = refusal(create, platform=platform, Runtime="haskell")

    assert (answer.status, answer.code) == (400, "InvalidParameterValueException")
    assert answer.message.startswith(
        "Value haskell at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: ["
    )
    assert answer.message.endswith("] or be a valid ARN")
