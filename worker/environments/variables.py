"""Which environment variables a runtime process gets. Pure."""

from __future__ import annotations

from contract.launch import LaunchSpec
from runtimes.catalog import RuntimeEntry
from worker.images.inspected import FunctionImage

RUNTIME_API_ADDRESS = "127.0.0.1:9001"


def process_environment(launch: LaunchSpec, runtime: RuntimeEntry, log_stream: str) -> dict[str, str]:
    """Return the complete environment: runtime defaults < the function's own < what Lambda reserves."""
    return {
        **runtime.default_env,
        **launch.environment,
        **reserved_variables(launch, log_stream),
        "_HANDLER": launch.handler,
        "AWS_EXECUTION_ENV": runtime.execution_env,
    }


def image_environment(launch: LaunchSpec, image: FunctionImage, log_stream: str) -> dict[str, str]:
    """Return the complete environment of a container image: its own < the function's own < what Lambda reserves.

    The handler is the first word of the command: clients read it there or in `_HANDLER`. `AWS_EXECUTION_ENV` is the
    image's own affair, as on Lambda.
    """
    command = launch.command or image.command
    return {
        **image.environment,
        **launch.environment,
        **reserved_variables(launch, log_stream),
        "_HANDLER": command[0] if command else "",
    }


def reserved_variables(launch: LaunchSpec, log_stream: str) -> dict[str, str]:
    """Return what Lambda sets whatever the function says, but for what differs between archives and images.

    The reserved names are those of Lambda (https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html).
    The credentials name the function's account, by this ecosystem's habit that a 12-digit access key is one; they
    open nothing by themselves.
    """
    return {
        "AWS_REGION": launch.region,
        "AWS_DEFAULT_REGION": launch.region,
        "AWS_LAMBDA_FUNCTION_NAME": launch.function_name,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(launch.memory_mb),
        "AWS_LAMBDA_FUNCTION_VERSION": launch.version,
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": launch.log_group,
        "AWS_LAMBDA_LOG_STREAM_NAME": log_stream,
        "AWS_LAMBDA_RUNTIME_API": RUNTIME_API_ADDRESS,
        "AWS_ACCESS_KEY_ID": launch.account,
        "AWS_SECRET_ACCESS_KEY": "lambdock",
        "AWS_SESSION_TOKEN": "lambdock",
        "LAMBDA_TASK_ROOT": "/var/task",
        "LAMBDA_RUNTIME_DIR": "/var/runtime",
    }
