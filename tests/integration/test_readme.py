"""The README does what it says: its shell blocks, verbatim, in one shell, against a platform of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.platform_under_test import Platform

ROOT = Path(__file__).resolve().parent.parent.parent
ENDPOINT = "http://127.0.0.1:4566"
_MARKED = re.compile(r"<!-- (tested|prints) -->\n```\w+\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_CUT = "--- the next block of the README ---"


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Commands that the README shows, and what it says they print."""

    commands: str
    prints: str


def blocks_of(readme: str) -> Iterator[Block]:
    """Each tested block, with the `prints` block that follows it, if any."""
    marked = _MARKED.findall(readme)
    for at, (mark, text) in enumerate(marked):
        if mark == "tested":
            follower = marked[at + 1] if at + 1 < len(marked) else ("", "")
            yield Block(commands=text, prints=follower[1] if follower[0] == "prints" else "")


def missing_lines(promised: str, printed: str) -> list[str]:
    """Promised lines that were not printed in this order; `…` stands for anything within a line."""
    missing, rest = [], iter(printed.splitlines())
    for line in promised.splitlines():
        pattern = re.compile(r"\s+".join(".*".join(map(re.escape, word.split("…"))) for word in line.split()))
        if not any(pattern.search(candidate) for candidate in rest):
            missing.append(line)
            rest = iter(())
    return missing


@pytest.mark.timeout(300)
def test_the_readme_can_be_followed_word_by_word(platform: Platform, tmp_path: Path) -> None:
    blocks = list(blocks_of((ROOT / "README.md").read_text(encoding="utf-8")))
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    script = f"\necho '{_CUT}'\n".join(block.commands for block in blocks)
    assert ENDPOINT in script

    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script.replace(ENDPOINT, platform.endpoint)],
        cwd=tmp_path,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "LC_ALL": "C.UTF-8",
            # The reader's platform is at the default endpoint, which `lambdock` needs no telling.
            "LAMBDOCK_ENDPOINT": platform.endpoint,
        },
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


@pytest.mark.timeout(300)
def test_the_hello_example_answers_as_its_documents_say(platform: Platform) -> None:
    text = (ROOT / "examples/README.md").read_text(encoding="utf-8")
    commands = re.findall(r"`(lambdock [^`]+)`", text)
    commands = [command for command in commands if not command.startswith("lambdock serve")]
    assert any("deploy examples/hello" in command for command in commands)

    for command in commands:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=ROOT,
            env={"PATH": f"{sys.prefix}/bin:{os.environ['PATH']}", "LAMBDOCK_ENDPOINT": platform.endpoint},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}"


def test_a_promise_that_is_not_kept_is_noticed() -> None:
    assert missing_lines("one …\nthree", "one 1\ntwo\nthree") == []
    assert missing_lines("three\none …", "one 1\ntwo\nthree") == ["one …"]
