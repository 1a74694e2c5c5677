"""`python -m worker.images build python3.13 …`: make images ahead of the first function that needs them."""

import argparse
import asyncio
import sys
from pathlib import Path

from runtimes.catalog import RuntimeStatus, load_catalog
from worker.engine import DockerEngine, EngineUnavailableError
from worker.images.engine_images import engine_architecture
from worker.images.errors import RuntimeUnavailableError
from worker.images.runtime_images import RuntimeImages


def main(argv: list[str] | None = None) -> int:
    """Build or prune; returns the exit status: 0, or 1 when some image can't be made."""
    arguments = _parser().parse_args(argv)
    try:
        with DockerEngine.connected() as engine:
            images = RuntimeImages(engine, load_catalog(), arguments.state_dir, on_progress=_say)
            if arguments.command == "prune":
                for tag in asyncio.run(images.prune()):
                    _say(f"removed {tag}")
                return 0
            return asyncio.run(_build(engine, images, arguments.runtimes))
    except EngineUnavailableError as error:
        sys.stderr.write(f"{error}\n")
        return 1


async def _build(engine: DockerEngine, images: RuntimeImages, runtimes: list[str]) -> int:
    """Make all at the same time: most of it is waiting for mirrors and for the engine."""
    machine = await engine.call(engine_architecture, engine.client)
    results = await asyncio.gather(*(_ensure(images, name, machine) for name in dict.fromkeys(runtimes)))
    return 0 if all(results) else 1


async def _ensure(images: RuntimeImages, runtime: str, architecture: str) -> bool:
    try:
        image = await images.ensure(runtime, architecture)
    except RuntimeUnavailableError as error:
        sys.stderr.write(f"{runtime}: {error.reason}\n")
        return False
    _say(f"{runtime} is {image}")
    return True


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m worker.images", description="Images that functions run in.")
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="make the images of some runtimes, unless they exist")
    supported = [entry.name for entry in load_catalog().values() if entry.status is RuntimeStatus.SUPPORTED]
    build.add_argument("runtimes", nargs="+", metavar="RUNTIME", help=f"one of {', '.join(supported)}")
    prune = commands.add_parser("prune", help="remove images made from older sources")
    for command in (build, prune):
        command.add_argument("--state-dir", type=Path, required=True, help="the worker's state directory, for locks")
    return parser


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
