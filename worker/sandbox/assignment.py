"""The words that tell a gate what to become. Pure; the gate's side is `runtimes/shared/gate.sh`."""

from __future__ import annotations

import shlex

from worker.sandbox.driver import ProcessSpec


def assignment(process: ProcessSpec) -> bytes:
    """Return the assignment for a gate: one shell command, whose every word is quoted.

    The command is in braces: a gate that reads only half of it, because the worker died, does nothing. A process that
    no kernel can start gets an assignment that makes the gate refuse, telling which part is wrong, never its value.
    """
    wrong = _fault(process)
    words = ["refuse", wrong] if wrong else ["become", process.cwd, *_pairs(process), *process.argv]
    command, *arguments = words
    # Bytes that are no UTF-8 can't be in a str; lone surrogates can, and are refused above.
    return "\n".join(["{", " ".join([command, *map(_quoted, arguments)]), "}", ""]).encode()


def _fault(process: ProcessSpec) -> str:
    """Say what a kernel, or `env`, can't take; empty if nothing."""
    # `env` takes leading words with "=" as variables.
    if not process.argv or not process.argv[0].startswith("/") or "=" in process.argv[0]:
        return 'the program must be an absolute path without "="'
    if not process.cwd.startswith("/"):
        return "the working directory must be an absolute path"
    for name, value in process.env.items():
        if not name or "=" in name or not _is_text(name):
            return f"{name!a} can't be the name of a variable"
        if not _is_text(value):
            return f"the value of {name} has a NUL character, or is no valid Unicode"
    if not all(map(_is_text, (*process.argv, process.cwd))):
        return "the program, its arguments or its directory have a NUL character, or are no valid Unicode"
    return ""


def _is_text(value: str) -> bool:
    return "\0" not in value and not any("\ud800" <= character <= "\udfff" for character in value)


def _pairs(process: ProcessSpec) -> list[str]:
    return [f"{name}={value}" for name, value in process.env.items()]


def _quoted(word: str) -> str:
    # Also what needs no quotes: nothing then depends on what a shell takes as plain.
    return shlex.quote(word) if "'" in word else f"'{word}'"
