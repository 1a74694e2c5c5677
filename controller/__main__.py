"""Runs one controller process: `python -m controller [--reuse-port]`."""

from __future__ import annotations

import argparse
import asyncio
import sys

import uvloop
from pydantic import ValidationError

from contract.observability import configure_logging
from controller.app import create_app
from controller.process import open_api
from controller.server import bind, serve
from controller.settings import ControllerSettings


def main() -> int:
    """Read the settings, serve until a signal, and return the exit status: 2 for impossible settings."""
    parser = argparse.ArgumentParser(prog="python -m controller", description="Serve Lambdock's API.")
    parser.add_argument("--reuse-port", action="store_true", help="let several processes share the address")
    options = parser.parse_args()
    try:
        settings = ControllerSettings()
    except ValidationError as error:
        # The input is not repeated: URLs may hold passwords.
        for problem in error.errors(include_url=False, include_input=False, include_context=False):
            where = "".join(f"LAMBDOCK_{str(step).upper()}: " for step in problem["loc"])
            sys.stderr.write(f"{where}{problem['msg'].removeprefix('Value error, ')}\n")
        return 2
    configure_logging(settings.log_level)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(settings, reuse_port=options.reuse_port))
    return 0


async def _run(settings: ControllerSettings, *, reuse_port: bool) -> None:
    async with open_api(settings) as services:
        listener = bind(settings, reuse_port=reuse_port)
        await serve(create_app(services), listener, log_level=settings.log_level)


if __name__ == "__main__":
    sys.exit(main())
