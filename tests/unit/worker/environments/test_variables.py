from __future__ import annotations

from tests.fakes.played_runtime import CATALOG, launch_spec
from worker.environments.variables import RUNTIME_API_ADDRESS, process_environment

PYTHON = CATALOG["python3.11"]


def test_a_function_overrides_defaults_but_not_what_lambda_reserves() -> None:
    launch = launch_spec(environment={"LANG": "C", "MINE": "1", "_HANDLER": "x", "AWS_LAMBDA_RUNTIME_API": "evil:1"})
    made = process_environment(launch, PYTHON, "stream")

    assert (made["LANG"], made["MINE"]) == ("C", "1")
    assert (made["_HANDLER"], made["AWS_LAMBDA_RUNTIME_API"]) == ("app.handler", RUNTIME_API_ADDRESS)


def test_the_runtime_is_told_what_it_runs() -> None:
    made = process_environment(launch_spec(version="7", memory_mb=256, log_group="/aws/lambda/f"), PYTHON, "stream")

    assert made["AWS_LAMBDA_FUNCTION_NAME"] == "f"
    assert made["AWS_LAMBDA_FUNCTION_VERSION"] == "7"
    assert made["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "256"
    assert made["AWS_LAMBDA_LOG_GROUP_NAME"] == "/aws/lambda/f"
    assert made["AWS_LAMBDA_LOG_STREAM_NAME"] == "stream"
    assert made["AWS_REGION"] == made["AWS_DEFAULT_REGION"] == "us-east-1"


def test_defaults_of_the_runtime_stay_where_the_function_says_nothing() -> None:
    made = process_environment(launch_spec(), PYTHON, "stream")
    assert {name: made[name] for name in PYTHON.default_env} == dict(PYTHON.default_env)
