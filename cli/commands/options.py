"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Endpoint = Annotated[
    str | None,
    typer.Option(
        "--endpoint",
        metavar="URL",
        help="Where Lambdock listens. Default: LAMBDOCK_ENDPOINT, AWS_ENDPOINT_URL_LAMBDA, AWS_ENDPOINT_URL, "
        "else http://127.0.0.1:4566.",
    ),
]
Region = Annotated[
    str | None,
    typer.Option("--region", metavar="REGION", help="AWS region. Default: the configured one, else us-east-1."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
FunctionName = Annotated[str, typer.Argument(metavar="NAME", help="Name or ARN of the function.")]


def endpoint_of(option: str | None) -> str:
    """Return the endpoint to use: the option, else what the environment names."""
    from cli.settings import ClientSettings

    return option.rstrip("/") if option else ClientSettings.read().endpoint
