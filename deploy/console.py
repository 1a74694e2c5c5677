"""Progress for people, and calls of other programs that don't flood them."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: Everything that the programs called here said in the last run.
LOG = ROOT / ".lambdock" / "up.log"

_TAIL_LINES = 20
_HEARTBEAT_S = 15


class GivingUpError(Exception):
    """The run can't go on; `str()` tells a person what is wrong and what to do."""


def say(text: str = "") -> None:
    """Print one line for a person."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


@contextmanager
def step(title: str) -> Iterator[None]:
    """Show that something is going on, that it still is, and how long it took."""
    started = time.monotonic()
    done = threading.Event()

    def tick() -> None:
        while not done.wait(_HEARTBEAT_S):
            say(f"       … {title}, {time.monotonic() - started:.0f} s")

    say(f"  ...  {title}")
    ticker = threading.Thread(target=tick, daemon=True)
    ticker.start()
    try:
        yield
    finally:
        done.set()
        ticker.join()
    say(f"  ok   {title} ({time.monotonic() - started:.1f} s)")


def run(command: Sequence[str], *, what: str, timeout_s: float, env: dict[str, str] | None = None) -> str:
    """Run a program and return what it wrote to standard output; all it said goes to the log.

    Raises: GivingUpError with the end of what it said, when it fails or takes longer than `timeout_s`.
    """
    LOG.parent.mkdir(exist_ok=True)
    with LOG.open("ab") as log:
        log.write(f"\n$ {' '.join(command)}\n".encode())
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env=env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=timeout_s,
                check=False,
            )
        except FileNotFoundError:
            raise GivingUpError(f"{what}: there is no program {command[0]!r} on this machine") from None
        except subprocess.TimeoutExpired as error:
            said = (error.stdout or b"") + (error.stderr or b"")
            log.write(said)
            raise GivingUpError(f"{what}: not done after {timeout_s:.0f} s{_tail(said)}") from None
        log.write(done.stdout + done.stderr)
    if done.returncode != 0:
        raise GivingUpError(f"{what}: exit code {done.returncode}{_tail(done.stdout + done.stderr)}")
    return done.stdout.decode(errors="replace")


def succeeds(command: Sequence[str], *, timeout_s: float = 30) -> bool:
    """Tell whether a quiet command ends well within `timeout_s`."""
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=timeout_s,
            check=False,
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _tail(said: bytes) -> str:
    lines = said.decode(errors="replace").rstrip().splitlines()[-_TAIL_LINES:]
    if not lines:
        return ""
    return "; the end of what it said:\n" + "\n".join(f"    {line}" for line in lines) + f"\n  (all of it: {LOG})"
