"""`lambdock health`."""

from __future__ import annotations

import typer

from cli.commands.options import Endpoint, Json, endpoint_of
from cli.errors import reported


def health(endpoint: Endpoint = None, json: Json = False) -> None:
    """Tell whether the platform is well.

    Names each part and each worker. Exit code 1 when something is not well.

    Example:  lambdock health --json | jq .workers
    """
    with reported():
        from cli.health import print_health

        raise typer.Exit(0 if print_health(endpoint_of(endpoint), is_json=json) else 1)
