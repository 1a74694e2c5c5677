"""`lambdock invoke`."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.commands.options import Endpoint, FunctionName, Json, Region, endpoint_of
from cli.errors import reported


def invoke(  # noqa: PLR0913 - each parameter is an option of the command
    name: FunctionName,
    payload: Annotated[str, typer.Option("--payload", "-p", help="JSON, @FILE, or - for standard input.")] = "{}",
    event: Annotated[bool, typer.Option("--event", help="Queue the event and return at once.")] = False,
    tail: Annotated[bool, typer.Option("--tail/--no-tail", help="Show the end of the log, on standard error.")] = True,
    qualifier: Annotated[str | None, typer.Option(help="Version or alias. Default: $LATEST.")] = None,
    endpoint: Endpoint = None,
    region: Region = None,
    json: Json = False,
) -> None:
    """Run a function and print its result.

    The result goes to standard output and the log to standard error. A function that fails ends with exit code 1.

    Example:  lambdock invoke hello --payload '{"name": "Ada"}'
    """
    with reported():
        from cli.invoking import InvokeRequest, invoke_function

        request = InvokeRequest(name=name, payload=payload, is_event=event, has_tail=tail, qualifier=qualifier)
        is_ok = invoke_function(request, endpoint=endpoint_of(endpoint), region=region, is_json=json)
        raise typer.Exit(0 if is_ok else 1)
