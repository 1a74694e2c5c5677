"""`lambdock invoke`."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.commands.options import Endpoint, FunctionName, Json, Region, endpoint_of
from cli.errors import reported


def invoke(  # noqa: PLR0913 - each parameter is an option of the command
    name: FunctionName,
    payload: Annotated[
        str, typer.Option("--payload", "-p", metavar="JSON", help="The event: JSON, @FILE, or - for standard input.")
    ] = "{}",
    event: Annotated[
        bool, typer.Option("--event", help="Queue the event, print its request id, and wait for nothing.")
    ] = False,
    tail: Annotated[
        bool,
        typer.Option("--tail/--no-tail", help="Show what this invocation logged (its last 4 KB), on standard error."),
    ] = True,
    qualifier: Annotated[
        str | None, typer.Option(metavar="VERSION", help="A version number. Default: $LATEST.")
    ] = None,
    endpoint: Endpoint = None,
    region: Region = None,
    json: Json = False,
) -> None:
    """Run a function and print its result.

    The result goes to standard output and the log to standard error. Exit code 1: the function failed, or the
    invocation was refused; 2: the command was written wrongly.

    Example:  lambdock invoke hello --payload '{"name": "Ada"}'
    """
    with reported():
        from cli.invoking import InvokeRequest, invoke_function

        request = InvokeRequest(name=name, payload=payload, is_event=event, has_tail=tail, qualifier=qualifier)
        is_ok = invoke_function(request, endpoint=endpoint_of(endpoint), region=region, is_json=json)
        raise typer.Exit(0 if is_ok else 1)
