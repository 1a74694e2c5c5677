"""`lambdock deploy`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.commands.options import Endpoint, Json, Region, endpoint_of
from cli.errors import reported


def deploy(  # noqa: PLR0913 - each parameter is an option of the command
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder with the function's code.")],
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Function name. Default: that of the folder.")
    ] = None,
    runtime: Annotated[
        str | None, typer.Option(metavar="RUNTIME", help="Lambda's name of the runtime, such as python3.11.")
    ] = None,
    handler: Annotated[
        str | None, typer.Option(metavar="HANDLER", help="Entry point: app.handler is the function handler in app.py.")
    ] = None,
    memory: Annotated[
        int | None, typer.Option(metavar="MB", min=128, max=10240, help="Memory in MB; CPU comes with it.")
    ] = None,
    timeout: Annotated[
        int | None,
        typer.Option(metavar="SECONDS", min=1, max=900, help="Time limit of an invocation in seconds."),
    ] = None,
    env: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Environment variable; may be given again for more.")
    ] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(metavar="ARN|DIR", help="Layer version, or a folder to publish as one; up to 5, later ones win."),
    ] = None,
    image: Annotated[
        str | None,
        typer.Option(
            metavar="IMAGE",
            help="Container image instead of DIR's code: one of the local engine, or with a registry's host.",
        ),
    ] = None,
    arch: Annotated[
        str | None, typer.Option(metavar="ARCH", help="x86_64 or arm64. New functions: x86_64, unless it is given.")
    ] = None,
    endpoint: Endpoint = None,
    region: Region = None,
    json: Json = False,
) -> None:
    """Create a function from a folder, or update it.

    Ends when the function can be invoked.

    Defaults come from DIR/lambdock.toml (name, runtime, handler, memory, timeout, arch, layers, image, entry_point,
    command, working_directory and a table env); options win.
    Files matching DIR/.lambdockignore stay out of the package, and so do .git, .venv and __pycache__.
    A layer's folder holds what is to lie in /opt, such as python/ or nodejs/; a new version is published when it has
    changed. Deploying an unchanged folder again changes nothing. The ARN goes to standard output.

    Example:  lambdock deploy examples/hello --env GREETING=Hi

    Example:  lambdock deploy resize --runtime python3.11 --handler app.handler --layer resize/layer
    """
    with reported():
        from cli.deploy.command import deploy_directory
        from cli.deploy.manifest import Manifest, parse_environment, parse_layers

        options = Manifest(
            name=name,
            runtime=runtime,
            handler=handler,
            memory=memory,
            timeout=timeout,
            arch=arch,
            layers=parse_layers(layer, Path()) if layer else None,
            image=image,
            env=parse_environment(env) if env else None,
        )
        deploy_directory(directory, options, endpoint=endpoint_of(endpoint), region=region, is_json=json)
