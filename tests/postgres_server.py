"""A private PostgreSQL server for the tests: a cluster in a temporary directory, on a unix socket and no TCP port."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from pathlib import Path
from typing import Final

#: The server refuses to run as root.
_USER: Final = "nobody"
_DEADLINE_S: Final = 60


class PostgresServer:
    """Use as a context manager. Sorts as people in some country do, since the platform must not depend on it."""

    def __init__(self) -> None:
        self._bin = _binaries()
        self.folder = Path(tempfile.mkdtemp(prefix="lambdock-pg-"))
        self._as_user = {"user": _USER, "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}

    def __enter__(self) -> PostgresServer:
        try:
            if self._as_user:
                shutil.chown(self.folder, _USER, "nogroup")
            options = ["--auth=trust", "--username=lambdock", "--no-sync", "--no-instructions", "--encoding=UTF8"]
            options += ["--locale-provider=icu", "--icu-locale=en-US", "--locale=C.UTF-8"]
            self._run("initdb", f"--pgdata={self.folder / 'data'}", *options)
            self.start()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.stop()
        finally:
            self._remove()

    def start(self) -> None:
        """Start it, and return when it answers."""
        options = f"-k {self.folder} -c listen_addresses= -c fsync=off -c max_connections=120"
        self._control("start", "-w", "-t", str(_DEADLINE_S), "-l", str(self.folder / "log"), "-o", options)

    def stop(self) -> None:
        """End it and every connection; no error when it does not run."""
        if (self.folder / "data/postmaster.pid").exists():
            self._control("stop", "-m", "fast", "-w", "-t", str(_DEADLINE_S))

    def crash(self) -> None:
        """Kill it as the loss of its machine would; `start` brings it back."""
        pid = int((self.folder / "data/postmaster.pid").read_text().splitlines()[0])
        os.kill(pid, signal.SIGQUIT)
        deadline = time.monotonic() + _DEADLINE_S
        while Path(f"/proc/{pid}").exists():
            assert time.monotonic() < deadline, "PostgreSQL does not end"
            time.sleep(0.02)

    def make_database(self) -> str:
        """Make an empty database and return its URL, in the form that operators write."""
        name = f"d{uuid.uuid4().hex}"
        self._run("createdb", f"--host={self.folder}", "--username=lambdock", name)
        return f"postgresql://lambdock@/{name}?host={self.folder}"

    def _control(self, *arguments: str) -> None:
        self._run("pg_ctl", "-D", str(self.folder / "data"), *arguments)

    def _run(self, program: str, *arguments: str) -> None:
        log = self.folder / "log"
        # Into a file: a server keeps the descriptors that it was started with, and a pipe would never end.
        with (self.folder / f"{program}.out").open("w+") as said:
            done = subprocess.run(
                [str(self._bin / program), *arguments],
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                timeout=_DEADLINE_S + 10,
                check=False,
                **self._as_user,
            )
            said.seek(0)
            text = said.read()
        if done.returncode != 0:
            tail = log.read_text()[-2000:] if log.exists() else ""
            raise RuntimeError(f"{program} {' '.join(arguments)}: exit code {done.returncode}\n{text}{tail}")

    def _remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def _binaries() -> Path:
    """Where the newest server lies. Debian keeps it off the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[4]))
    if found:
        return found[-1].parent
    if on_path := shutil.which("initdb"):
        return Path(on_path).resolve().parent
    raise RuntimeError("no PostgreSQL server found: bash deploy/ensure-engine.sh postgres")
