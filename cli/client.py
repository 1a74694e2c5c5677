"""The Lambda API, as the commands call it: one client, and AWS's errors as messages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cli.errors import CliError, UsageError
from cli.settings import DEFAULT_REGION

CONNECT_TIMEOUT_S = 3
#: Enough for every operation but a long invocation.
READ_TIMEOUT_S = 60


def not_running(endpoint: str) -> CliError:
    """Return the error for an endpoint on which nothing answers."""
    return CliError(
        f"nothing answers at {endpoint}. Is Lambdock running? Start it with `lambdock serve` (or `make up`), "
        "or name another place with --endpoint or LAMBDOCK_ENDPOINT."
    )


def lambda_client(endpoint: str, *, region: str | None = None, read_timeout_s: float = READ_TIMEOUT_S) -> Any:
    """Return a boto3 Lambda client for `endpoint`.

    Never retries: a repeated invocation would run the function twice. Region and credentials are the configured
    ones, else us-east-1 and test:test; the metadata service of a cloud is never asked.
    """
    # Here, not above: they take longer to import than most commands take to run.
    import boto3
    import botocore.session
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    if not endpoint.startswith(("http://", "https://")):
        raise UsageError(f"the endpoint must be a URL such as http://127.0.0.1:4566, not {endpoint!r}")
    core = botocore.session.get_session()
    try:
        core.get_component("credential_provider").remove("iam-role")
        keys = {} if core.get_credentials() else {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        return boto3.session.Session(botocore_session=core).client(
            "lambda",
            endpoint_url=endpoint,
            region_name=region or core.get_config_variable("region") or DEFAULT_REGION,
            config=Config(
                connect_timeout=CONNECT_TIMEOUT_S,
                read_timeout=read_timeout_s,
                retries={"total_max_attempts": 1},
                # A proxy of the environment must not see calls to one's own machine.
                proxies={},
            ),
            **keys,
        )
    except (BotoCoreError, ValueError) as error:
        raise UsageError(f"the AWS configuration cannot be used: {error}") from None


def signature(method: str, url: str, *, region: str | None = None) -> dict[str, str]:
    """Return the headers that sign a request to the platform's own pages: they name account and region.

    With the same credentials and region as `lambda_client`. The body is not part of it, so that it may be streamed.
    """
    import botocore.session
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    core = botocore.session.get_session()
    core.get_component("credential_provider").remove("iam-role")
    keys = core.get_credentials() or Credentials("test", "test")
    request = AWSRequest(method=method, url=url)
    SigV4Auth(keys, "lambda", region or core.get_config_variable("region") or DEFAULT_REGION).add_auth(request)
    return {name: value for name, value in request.headers.items() if name.lower() != "content-length"}


@contextmanager
def aws_errors(endpoint: str) -> Iterator[None]:
    """Turn what boto3 raises inside into a `CliError` with AWS's code and message."""
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        ConnectionError,
        EndpointConnectionError,
        ParamValidationError,
        ReadTimeoutError,
        WaiterError,
    )

    try:
        yield
    except ClientError as error:
        details = error.response.get("Error", {})
        request_id = error.response.get("ResponseMetadata", {}).get("RequestId")
        told = f"{details.get('Code', 'Unknown')}: {details.get('Message') or 'no message'}"
        raise CliError(f"{told} (request {request_id})" if request_id else told) from None
    except ReadTimeoutError:
        raise CliError(f"{endpoint} took the request and did not answer in time") from None
    except (EndpointConnectionError, ConnectionError):
        raise not_running(endpoint) from None
    except ParamValidationError as error:
        raise UsageError(str(error)) from None
    except (WaiterError, BotoCoreError) as error:
        raise CliError(str(error)) from None
