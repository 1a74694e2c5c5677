"""What can go wrong for the person at the terminal, and the one place that reports it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer


class CliError(Exception):
    """Ends the command: `message` on standard error, without a traceback, and `exit_code`."""

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code


class UsageError(CliError):
    """The command was asked for something that it cannot do; exit code 2."""

    def __init__(self, message: str) -> None:
        super().__init__(message, exit_code=2)


@contextmanager
def reported() -> Iterator[None]:
    """Turn a `CliError` into its message and exit code; Ctrl-C ends with 130, as shells expect."""
    from cli.output import problem

    try:
        yield
    except CliError as error:
        problem(error.message)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except BrokenPipeError:
        # `lambdock logs x | head` is not a failure.
        raise typer.Exit(0) from None
