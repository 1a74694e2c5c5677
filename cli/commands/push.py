"""`lambdock push`."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.commands.options import Endpoint, Json, Region, endpoint_of
from cli.errors import reported


def push(
    image: Annotated[
        str, typer.Argument(metavar="IMAGE", help="An image of the local engine, or a file that docker save wrote.")
    ],
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="What to call it. Default: its name, without registry and tag.")
    ] = None,
    one: Annotated[
        str | None, typer.Option("--image", metavar="TAG", help="Which image of a file that holds several.")
    ] = None,
    endpoint: Endpoint = None,
    region: Region = None,
    json: Json = False,
) -> None:
    """Push a container image to the platform.

    For functions that are container images, without a registry. Prints the ImageUri to create the function with.
    An image that has been pushed before is not sent again.

    Example:  lambdock push my-function:latest
    """
    with reported():
        from cli.images.command import print_push

        print_push(image, endpoint_of(endpoint), region, name=name, wanted=one, is_json=json)
