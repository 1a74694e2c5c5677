"""`lambdock delete`."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.commands.options import Endpoint, FunctionName, Region, endpoint_of
from cli.errors import reported


def delete(
    name: FunctionName,
    qualifier: Annotated[str | None, typer.Option(help="Delete only this version.")] = None,
    endpoint: Endpoint = None,
    region: Region = None,
) -> None:
    """Delete a function, with all its versions and aliases.

    Example:  lambdock delete hello
    """
    with reported():
        from cli.inventory import delete_function

        delete_function(name, endpoint_of(endpoint), region, qualifier=qualifier)
