"""`lambdock deploy`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.commands.options import Endpoint, Json, Region, endpoint_of
from cli.errors import reported


def deploy(  # noqa: PLR0913 - each parameter is an option of the command
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder with the function's code.")],
    name: Annotated[str | None, typer.Option(help="Function name. Default: that of the folder.")] = None,
    runtime: Annotated[str | None, typer.Option(help="Runtime identifier, such as python3.11.")] = None,
    handler: Annotated[str | None, typer.Option(help="Entry point, such as app.handler.")] = None,
    memory: Annotated[int | None, typer.Option(min=128, max=10240, help="Memory in MB.")] = None,
    timeout: Annotated[int | None, typer.Option(min=1, max=900, help="Time limit of an invocation in seconds.")] = None,
    env: Annotated[list[str] | None, typer.Option(metavar="K=V", help="Environment variable; repeatable.")] = None,
    arch: Annotated[str | None, typer.Option(help="x86_64 or arm64.")] = None,
    endpoint: Endpoint = None,
    region: Region = None,
    json: Json = False,
) -> None:
    """Create a function from a folder, or update it.

    Defaults come from DIR/lambdock.toml (name, runtime, handler, memory, timeout, arch and a table env); options win.
    Files matching DIR/.lambdockignore stay out of the package, and so do .git, .venv and __pycache__.
    Deploying the same folder again changes nothing.

    Example:  lambdock deploy examples/hello --env GREETING=Hi
    """
    with reported():
        from cli.deploy.command import deploy_directory
        from cli.deploy.manifest import Manifest, parse_environment

        options = Manifest(
            name=name,
            runtime=runtime,
            handler=handler,
            memory=memory,
            timeout=timeout,
            arch=arch,
            env=parse_environment(env) if env else None,
        )
        deploy_directory(directory, options, endpoint=endpoint_of(endpoint), region=region, is_json=json)
