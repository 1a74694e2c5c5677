"""`lambdock serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.errors import reported


def serve(
    state_dir: Annotated[
        Path | None, typer.Option(help="Where everything is kept. Default: ~/.local/share/lambdock.", metavar="DIR")
    ] = None,
    listen: Annotated[
        str | None, typer.Option(help="Address of the Lambda API. Default: 127.0.0.1:4566.", metavar="HOST:PORT")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=64, help="Worker processes. Default: 1.")
    ] = None,
    controllers: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=64, help="Controller processes. Default: 1.")
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show every log line of the parts.")] = False,
    json_logs: Annotated[
        bool, typer.Option("--json", help="Print events and every log line of the parts as JSON lines.")
    ] = False,
) -> None:
    """Run the whole platform on this machine, until Ctrl-C.

    Needs root and a Docker Engine. Redis, controllers, the background process and workers start as one process tree;
    a part that dies is started again. Logs are kept in DIR/log. Ctrl-C lets running invocations finish; a second one
    stops at once. Functions are there again at the next start.

    Example:  sudo lambdock serve --state-dir /var/lib/lambdock --workers 2
    """
    with reported():
        from cli.serve.run import ServeOptions, run

        options = ServeOptions(
            state_dir=state_dir,
            listen=listen,
            workers=workers,
            controllers=controllers,
            is_verbose=verbose,
            has_json_logs=json_logs,
        )
        raise typer.Exit(run(options))
