"""`lambdock list`."""

from __future__ import annotations

from cli.commands.options import Endpoint, Json, Region, endpoint_of
from cli.errors import reported


def list_functions(endpoint: Endpoint = None, region: Region = None, json: Json = False) -> None:
    """List the functions.

    Example:  lambdock list --json | jq -r .FunctionName
    """
    with reported():
        from cli.inventory import print_functions

        print_functions(endpoint_of(endpoint), region, is_json=json)
