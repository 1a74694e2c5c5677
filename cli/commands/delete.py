"""`lambdock delete`."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.commands.options import Endpoint, FunctionName, Region, endpoint_of
from cli.errors import reported


def delete(
    name: FunctionName,
    qualifier: Annotated[
        str | None, typer.Option(metavar="VERSION", help="Delete only this version: a number.")
    ] = None,
    endpoint: Endpoint = None,
    region: Region = None,
) -> None:
    """Delete a function, or one of its versions.

    A function goes with all its versions, its logs and its queued events. No question is asked.

    Example:  lambdock delete hello
    """
    with reported():
        from cli.inventory import delete_function

        delete_function(name, endpoint_of(endpoint), region, qualifier=qualifier)
