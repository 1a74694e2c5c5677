"""`lambdock logs`."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.commands.options import Endpoint, FunctionName, Json, endpoint_of
from cli.errors import reported


def logs(
    name: FunctionName,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more, until Ctrl-C.")] = False,
    since: Annotated[str | None, typer.Option(metavar="AGE", help="Only newer than this: 30s, 10m, 2h, 1d.")] = None,
    limit: Annotated[
        int, typer.Option(metavar="LINES", min=1, max=10_000, help="At most this many lines to begin with.")
    ] = 1000,
    endpoint: Endpoint = None,
    json: Json = False,
) -> None:
    """Print what a function has logged.

    Oldest lines first. Workers keep the last 16 MB of each function, unless they are set up otherwise.

    Example:  lambdock logs hello --follow --since 10m
    """
    with reported():
        from cli.log_reader import LogQuery, print_logs

        print_logs(
            LogQuery.of(name, since=since, limit=limit), endpoint_of(endpoint), is_following=follow, is_json=json
        )
