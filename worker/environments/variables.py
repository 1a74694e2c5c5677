"""Which environment variables a runtime process gets. Pure."""

from __future__ import annotations

from contract.launch import LaunchSpec
from runtimes.catalog import RuntimeEntry

RUNTIME_API_ADDRESS = "127.0.0.1:9001"


def process_environment(launch: LaunchSpec, runtime: RuntimeEntry, log_stream: str) -> dict[str, str]:
    """Return the complete environment: runtime defaults < the function's own < what Lambda reserves.

    The reserved names are those of Lambda (https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html).
    The credentials name the function's account, by this ecosystem's habit that a 12-digit access key is one; they
    open nothing by themselves.
    """
    return {
        **runtime.default_env,
        **launch.environment,
        "_HANDLER": launch.handler,
        "AWS_REGION": launch.region,
        "AWS_DEFAULT_REGION": launch.region,
        "AWS_EXECUTION_ENV": runtime.execution_env,
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
