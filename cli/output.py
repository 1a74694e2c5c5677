"""How the command prints: colours on a terminal, plain text in pipes and under NO_COLOR, JSON on request."""

from __future__ import annotations

import json
import sys

from rich.console import Console
from rich.text import Text


def console(*, stderr: bool = False) -> Console:
    """Return a console on the present standard stream. Text is never wrapped in a pipe, so that `grep` works."""
    made = Console(stderr=stderr, highlight=False, emoji=False)
    if not made.is_terminal:
        made = Console(stderr=stderr, highlight=False, emoji=False, soft_wrap=True, width=10_000)
    return made


def printable(text: str) -> str:
    """Return `text` without the control characters by which printed data could drive the terminal."""
    return "".join(c if c in "\n\t" or (c.isprintable() and c != "\x1b") else f"\\x{ord(c):02x}" for c in text)


def say(text: str, style: str = "") -> None:
    """Print one line of result."""
    console().print(Text(printable(text), style=style))


def note(text: str, style: str = "dim") -> None:
    """Print one line beside the result, on standard error."""
    console(stderr=True).print(Text(printable(text), style=style))


def problem(message: str) -> None:
    """Print why the command ends, on standard error."""
    console(stderr=True).print(Text.assemble(("error: ", "bold red"), printable(message)))


def machine(value: object) -> None:
    """Print one JSON document on a line of its own."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()


def pretty_json(body: bytes) -> str:
    """Return `body` indented when it is JSON, else as text."""
    try:
        return json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    except ValueError:
        return body.decode("utf-8", "backslashreplace")
