"""Documents that can be followed word by word: their shell blocks are run verbatim, in one shell."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_MARKED = re.compile(r"<!-- (tested|prints) -->\n```\w+\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_CUT = "--- the next block ---"


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Commands that a document shows, and what it says they print."""

    commands: str
    prints: str


def blocks_of(text: str) -> Iterator[Block]:
    """Each tested block, with the `prints` block that follows it, if any."""
    marked = _MARKED.findall(text)
    for at, (mark, commands) in enumerate(marked):
        if mark == "tested":
            follower = marked[at + 1] if at + 1 < len(marked) else ("", "")
            yield Block(commands=commands, prints=follower[1] if follower[0] == "prints" else "")


def missing_lines(promised: str, printed: str) -> list[str]:
    """Promised lines that were not printed in this order; `…` stands for anything within a line."""
    missing, rest = [], iter(printed.splitlines())
    for line in promised.splitlines():
        pattern = re.compile(r"\s+".join(".*".join(map(re.escape, word.split("…"))) for word in line.split()))
        if not any(pattern.search(candidate) for candidate in rest):
            missing.append(line)
            rest = iter(())
    return missing


def follow(document: Path, replacements: Mapping[str, str], environment: Mapping[str, str], folder: Path) -> None:
    """Run a document's tested blocks in one shell in `folder`; fail where a promised line is not printed.

    Each replacement must have something to replace: a document that no longer names it is tested for something else.
    """
    blocks = list(blocks_of(document.read_text(encoding="utf-8")))
    script = f"\necho '{_CUT}'\n".join(block.commands for block in blocks)
    for written, actual in replacements.items():
        assert written in script, f"{document.name} does not name {written}"
        script = script.replace(written, actual)

    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "LC_ALL": "C.UTF-8", **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=280,
        check=False,
    )

    assert done.returncode == 0, done.stdout
    for block, printed in zip(blocks, done.stdout.split(_CUT), strict=True):
        assert not missing_lines(block.prints, printed), f"promised, not printed: of\n{printed}"
