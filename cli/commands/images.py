"""`lambdock images`."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.commands.options import Endpoint, Json, Region, endpoint_of
from cli.errors import reported


def images(
    remove: Annotated[
        str | None, typer.Option(metavar="URI", help="Remove this image. Functions that use it go on.")
    ] = None,
    endpoint: Endpoint = None,
    region: Region = None,
    json: Json = False,
) -> None:
    """List the container images that were pushed, or remove one.

    Example:  lambdock images --json | jq -r .ImageUri
    """
    with reported():
        from cli.images.command import print_images, remove_image

        if remove:
            remove_image(remove, endpoint_of(endpoint), region)
        else:
            print_images(endpoint_of(endpoint), region, is_json=json)
