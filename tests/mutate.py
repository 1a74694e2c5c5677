"""Checks the checks: breaks one line of the code at a time, and sees whether the test that should notice fails.

`python -m tests.mutate [WORD…]` runs the mutations of `mutations.toml` whose names contain one of the words (default:
all) on a copy of the tree, and prints a table. Exit status 1 when a test did not notice, or fails without a mutation.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
_COPIED = ("cli", "contract", "controller", "worker", "runtimes", "deploy", "tests", "examples", "docs")
_LIMIT_S = 300
NOTICED = "yes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """One line to break, and who should notice."""

    name: str
    file: str
    old: str
    new: str
    #: A pytest node id.
    test: str


def main(words: list[str]) -> int:
    """Run, print, and return the exit status."""
    listed = tomllib.loads((ROOT / "tests" / "mutations.toml").read_text(encoding="utf-8"))["mutation"]
    mutations = [Mutation(**entry) for entry in listed]
    chosen = [item for item in mutations if not words or any(word in item.name for word in words)]
    console = Console(width=150)
    table = Table("what must hold", "broken line", "test", "noticed")
    is_good = bool(chosen)
    with tempfile.TemporaryDirectory(prefix="lambdock-mutate-") as folder:
        copy = Path(folder)
        for name in _COPIED:
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "README.md", "Makefile", "docker-compose.yml", ".env.example"):
            shutil.copy(ROOT / name, copy / name)
        fails_anyway: dict[str, bool] = {}
        for mutation in chosen:
            began = time.monotonic()
            if mutation.test not in fails_anyway:
                fails_anyway[mutation.test] = _fails(copy, mutation.test)
            verdict = "fails without it, too" if fails_anyway[mutation.test] else _try(copy, mutation)
            is_good &= verdict == NOTICED
            console.print(f"{mutation.name}: {verdict} ({time.monotonic() - began:.0f} s)")
            table.add_row(
                mutation.name, f"{mutation.file}: {mutation.new.strip() or 'removed'}", mutation.test, verdict
            )
    console.print(table)
    return 0 if is_good else 1


def _try(copy: Path, mutation: Mutation) -> str:
    path = copy / mutation.file
    original = path.read_text(encoding="utf-8")
    if original.count(mutation.old) != 1:
        return f"the line to break is there {original.count(mutation.old)} times"
    path.write_text(original.replace(mutation.old, mutation.new), encoding="utf-8")
    try:
        return NOTICED if _fails(copy, mutation.test) else "NO"
    finally:
        path.write_text(original, encoding="utf-8")


def _fails(copy: Path, test: str) -> bool:
    # The platform's processes are started outside the copy: the path makes them import it all the same.
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:randomly", test]
    try:
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, timeout=_LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        return True
    if done.returncode not in (0, 1):
        raise SystemExit(f"{test} could not be run:\n{done.stdout.decode()[-2000:]}")
    return done.returncode == 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
