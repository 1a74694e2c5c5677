"""Plain HTTP to the platform's own pages (health, logs), with the same messages as the Lambda API's client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from cli.client import CONNECT_TIMEOUT_S, not_running
from cli.errors import CliError, UsageError

READ_TIMEOUT_S = 10


class Unreachable(CliError):
    """The platform did not answer, or answered that it cannot now: a later try may succeed."""


def client() -> httpx.Client:
    """Return a client with short time limits that ignores proxies of the environment."""
    return httpx.Client(timeout=httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S), trust_env=False)


def get(
    http: httpx.Client,
    endpoint: str,
    path: str,
    params: dict[str, str] | None = None,
    *,
    headers: Mapping[str, str] | None = None,
) -> httpx.Response:
    """Return the answer to one GET, whatever its status.

    Raises: `UsageError` for an endpoint that is no URL; `Unreachable` when nothing, or too late, answers.
    """
    try:
        return http.get(endpoint + path, params=params, headers=headers)
    except (httpx.UnsupportedProtocol, httpx.InvalidURL):
        raise UsageError(f"the endpoint must be a URL such as http://127.0.0.1:4566, not {endpoint!r}") from None
    except httpx.ConnectError:
        raise Unreachable(not_running(endpoint).message) from None
    except httpx.TimeoutException:
        raise Unreachable(f"{endpoint} did not answer within {READ_TIMEOUT_S} s") from None
    except httpx.HTTPError as error:
        raise Unreachable(f"{endpoint} broke the connection: {error or type(error).__name__}") from None


def json_object(response: httpx.Response) -> dict[str, Any]:
    """Return the JSON object in an answer. Raises: `CliError` when it holds something else."""
    try:
        value = response.json()
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise CliError(
            f"{response.url} answered {response.status_code} with something that is not Lambdock's. "
            "Does another program listen there?"
        )
    return value
