"""`python -m worker`: one worker process."""

from __future__ import annotations

import resource
import sys

import uvloop
from pydantic import ValidationError

from contract.observability import configure_logging
from worker.app import serve
from worker.engine import EngineUnavailableError
from worker.images.errors import RuntimeUnavailableError
from worker.sandbox.driver import SandboxStartFailedError
from worker.settings import WorkerSettings

#: Not all that the system allows: programs that the worker starts may close each descriptor that they could have.
_DESCRIPTORS = 65_536


def main() -> int:
    """Run until told to stop. Exit status 2: a setting is wrong; 3: this machine can't run sandboxes."""
    try:
        settings = WorkerSettings()
    except ValidationError as error:
        print(f"lambdock worker: {error}", file=sys.stderr)  # noqa: T201 - before logging is configured
        return 2
    configure_logging(settings.log_level)
    _allow_descriptors()
    try:
        uvloop.run(serve(settings))
    except (EngineUnavailableError, RuntimeUnavailableError, SandboxStartFailedError) as error:
        print(f"lambdock worker: {error}", file=sys.stderr)  # noqa: T201 - the operator reads this
        return 3
    return 0


def _allow_descriptors() -> None:
    """Take what each sandbox's few hundred connections need: the usual soft limit is for interactive programs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, _DESCRIPTORS)), hard))


if __name__ == "__main__":
    sys.exit(main())
