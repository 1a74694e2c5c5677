"""A second Docker Engine beside the machine's own, and a worker on it: a second host, as far as the platform can tell.

All that it makes carries its folder in its name, or is listed in that folder, and is removed by that whatever has
happened. It must not meddle with the first engine: it has a bridge of its own, makes no packet filters, and reads no
configuration. Two things delete `docker0`, the first one's bridge: `--bridge=none`, and a second start with
`--default-address-pool`. Neither must ever be used here.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import docker

_START_S: Final = 60
#: Asks the kernel to kill what it becomes when these tests die.
_CHILD: Final = str(Path(__file__).parent.parent / "cli/serve/child.py")
_DOCKER0: Final = Path("/sys/class/net/docker0")
_CGROUPS: Final = Path("/sys/fs/cgroup")


class SecondEngine:
    """Use as a context manager. `die` and `start` are the loss and the return of its machine."""

    def __init__(self) -> None:
        #: Short: sockets lie in it.
        self.folder = Path(tempfile.mkdtemp(prefix="lde-", dir="/tmp"))
        self._link = f"lde{secrets.token_hex(4)}"
        self._address = f"10.{secrets.randbelow(200) + 20}.{secrets.randbelow(250)}.1/24"
        self._cgroup = f"lambdock-{self.folder.name}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """As DOCKER_HOST takes it."""
        return f"unix://{self.folder}/docker.sock"

    def __enter__(self) -> SecondEngine:
        try:
            _run("ip", "link", "add", self._link, "type", "bridge")
            _run("ip", "address", "add", self._address, "dev", self._link)
            _run("ip", "link", "set", self._link, "up")
            self.start()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def start(self) -> None:
        """Start it on what is there, and return when it answers."""
        # Else both engines have one id, and are one host to the platform.
        own_key = {"deprecated-key-path": f"{self.folder}/key.json"} if _has_key_file() else {}
        (self.folder / "daemon.json").write_text(json.dumps(own_key))
        has_bridge = _DOCKER0.exists()
        # What a dead machine forgets.
        shutil.rmtree(self.folder / "exec", ignore_errors=True)
        (self.folder / "pid").unlink(missing_ok=True)
        options = {
            "config-file": self.folder / "daemon.json",
            "host": self.url,
            "data-root": self.folder / "data",
            "exec-root": self.folder / "exec",
            "pidfile": self.folder / "pid",
            "bridge": self._link,
            "iptables": "false",
            "ip-forward": "false",
            "ip-masq": "false",
            "cgroup-parent": f"/{self._cgroup}",
        }
        command = ["dockerd", *(f"--{name}={value}" for name, value in options.items())]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                # Dies with the tests, however they end.
                [sys.executable, "-I", "-S", _CHILD, str(os.getpid()), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the second engine did not start:\n{(self.folder / 'log').read_text()[-3000:]}")
            time.sleep(0.1)
        if has_bridge and not _DOCKER0.exists():
            raise RuntimeError("the second engine has deleted docker0: start the first one again, and mend this class")

    def take_image(self, reference: str) -> None:
        """Copy an image from the machine's own engine."""
        save = subprocess.Popen(["docker", "save", reference], stdout=subprocess.PIPE)
        try:
            _run("docker", "-H", self.url, "load", "-q", stdin=save.stdout)
        finally:
            assert save.stdout is not None
            save.stdout.close()
            save.wait(60)

    def containers(self, cell: str) -> list[dict[str, Any]]:
        """Return a cell's containers here, dead ones included."""
        client = docker.DockerClient(self.url)
        try:
            return list(client.api.containers(all=True, filters={"label": f"lambdock={cell}"}))
        finally:
            client.close()

    def die(self) -> None:
        """Kill the engine, its helpers and all that runs in its containers, in one stroke; mounts go with a machine."""
        doomed = self._processes()
        for pid in doomed:
            _kill(pid)
        if self._process is not None:
            self._process.wait(10)
        deadline = time.monotonic() + 10
        while left := [pid for pid in doomed if _is_alive(pid)]:
            assert time.monotonic() < deadline, f"processes of the second engine do not end: {left}"
            time.sleep(0.02)
        for mount in self.mounts():
            _run("umount", "--lazy", mount)

    def remove(self) -> None:
        """Leave nothing of it. Idempotent."""
        self.die()
        for link in self.links():
            subprocess.run(["ip", "link", "delete", link], check=False, stderr=subprocess.DEVNULL)
        for path in sorted(_CGROUPS.glob(f"*/{self._cgroup}/**/"), key=lambda path: -len(path.parts)):
            path.rmdir()
        for path in _CGROUPS.glob(f"*/{self._cgroup}"):
            path.rmdir()
        shutil.rmtree(self.folder, ignore_errors=True)

    # --- what there is of it ----------------------------------------------------------------------------------------

    def mounts(self) -> list[str]:
        """Return the mount points below its folder, the innermost first."""
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        return [at for at in (line.split()[4] for line in reversed(lines)) if at.startswith(f"{self.folder}/")]

    def links(self) -> list[str]:
        """Return its bridges: its own, and those of the networks that were made on it."""
        # Its own list of networks, which is there when it is not.
        store = self.folder / "data/network/files/local-kv.db"
        listed = store.read_bytes().decode("latin-1") if store.exists() else ""
        made = re.findall(r"br-[0-9a-f]{12}|ldk[0-9a-f]{10}", listed)
        there = {link["ifname"] for link in json.loads(_run("ip", "-json", "link"))}
        return sorted(there & {self._link, *made})

    def _processes(self) -> list[int]:
        """The engine and its helpers, whose commands name the folder, and all that descends from them."""
        parents: dict[int, int] = {}
        ours: set[int] = set()
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                # Behind the command's name, which may hold anything: state, parent, ….
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                if f"{self.folder}/" in (entry / "cmdline").read_bytes().decode(errors="replace"):
                    ours.add(int(entry.name))
            except OSError:
                continue
        ours.discard(os.getpid())
        while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
            ours |= more
        return sorted(ours)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(5)
            try:
                asking.connect(f"{self.folder}/docker.sock")
                asking.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
                return b" 200 " in asking.recv(64)
            except OSError:
                return False


class SecondHost:
    """A worker on the second engine, told nothing but the cell, its Redis and its blob store."""

    def __init__(self, engine: SecondEngine, *, cell: str, redis_url: str, blob_url: str, **settings: str) -> None:
        self.engine = engine
        # Below the engine's folder: what this host has on disk goes with it.
        self.state_dir = engine.folder / "worker"
        self.output = engine.folder / "worker.out"
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("LAMBDOCK_", "AWS_"))}
        self._environment: Mapping[str, str] = {
            **inherited,
            "DOCKER_HOST": engine.url,
            "LAMBDOCK_CELL": cell,
            "LAMBDOCK_REDIS_URL": redis_url,
            "LAMBDOCK_BLOB_URL": blob_url,
            "LAMBDOCK_STATE_DIR": str(self.state_dir),
            "LAMBDOCK_WORKER_ID": "second",
            **settings,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the worker; it registers by itself."""
        with self.output.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", _CHILD, str(os.getpid()), sys.executable, "-m", "worker"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._environment,
                start_new_session=True,
            )

    def die(self) -> None:
        """Lose the whole host: worker, engine, sandboxes, mounts. Its disk stays."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)
        self.engine.die()

    def stop(self) -> None:
        """Let the worker drain; one that does not end in time is an error."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise AssertionError(f"the second worker did not stop:\n{self.output.read_text()[-3000:]}") from None


def _has_key_file() -> bool:
    """Until version 23 engines took their id from a file that all engines of a machine share."""
    said = _run("dockerd", "--version")
    return int(said.split()[2].partition(".")[0]) < 23


def _run(*command: str, stdin: Any = subprocess.DEVNULL) -> str:
    done = subprocess.run(command, stdin=stdin, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
