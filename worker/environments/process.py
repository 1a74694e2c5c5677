"""What the process of an environment is: program, directory, variables. Pure."""

from __future__ import annotations

from contract.launch import LaunchSpec
from runtimes.catalog import RuntimeEntry
from worker.environments.variables import image_environment, process_environment
from worker.images.inspected import FunctionImage
from worker.sandbox.driver import ProcessSpec

#: Of images that name no directory of their own, as on the engine.
_ROOT = "/"


def archive_process(launch: LaunchSpec, runtime: RuntimeEntry, log_stream: str) -> ProcessSpec:
    """Return the process of a function that came as an archive."""
    return ProcessSpec(argv=runtime.bootstrap_argv, env=process_environment(launch, runtime, log_stream))


def image_process(launch: LaunchSpec, image: FunctionImage, log_stream: str) -> ProcessSpec:
    """Return the process of a container image: entry point, then command, each the function's or else the image's.

    Its `argv` is empty when neither names anything.
    """
    entry_point, command = words(launch, image)
    return ProcessSpec(
        argv=(*entry_point, *command),
        env=image_environment(launch, image, log_stream),
        cwd=launch.working_directory or image.working_directory or _ROOT,
    )


def words(launch: LaunchSpec, image: FunctionImage) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return entry point and command of a container image: the function's own replaces the image's, each by itself."""
    return tuple(launch.entry_point) or image.entry_point, tuple(launch.command) or image.command
