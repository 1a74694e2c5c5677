"""A whole platform, as `lambdock serve` starts it, with a cell, a port and a state directory of its own."""

from __future__ import annotations

import atexit
import functools
import io
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import docker
import httpx
import redis
from botocore.config import Config

from tests.images_under_test import names_of_cell, remove
from tests.postgres_server import PostgresServer

ROLE = "arn:aws:iam::000000000000:role/lambda-role"
RUNTIME = "python3.11"


class Platform:
    """Start it, ask it, kill parts of it, stop it. Nothing of its cell is left after `stop`.

    With LAMBDOCK_TEST_DATABASE=postgres its database is one on a real PostgreSQL server, and with
    LAMBDOCK_TEST_CONTROLLERS or LAMBDOCK_TEST_WORKERS it has so many of them: so that any test may run on these.
    """

    def __init__(self, state_dir: Path, **settings: str) -> None:
        self.state_dir = state_dir
        self.cell = f"test-{uuid.uuid4().hex[:12]}"
        self.port = _free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self._settings = settings_under_test() | settings
        self._process: subprocess.Popen[bytes] | None = None
        self.output = state_dir / "serve.out"

    # --- life ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start, and wait until functions can run."""
        self.state_dir.mkdir(parents=True, exist_ok=True)
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("LAMBDOCK_", "AWS_"))}
        environment |= {"LAMBDOCK_CELL": self.cell, **self._settings}
        command = [sys.executable, "-m", "cli", "serve"]
        command += ["--state-dir", str(self.state_dir), "--listen", f"127.0.0.1:{self.port}"]
        with self.output.open("ab") as output:
            self._process = subprocess.Popen(
                command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, env=environment, start_new_session=True
            )
        self.wait_until(self.is_serving, "the platform serves", timeout_s=300)

    @property
    def workers(self) -> int:
        """How many workers it starts."""
        return int(self._settings.get("LAMBDOCK_WORKERS", "1"))

    def health(self) -> dict[str, Any]:
        """What `/health` says; empty when nothing answers."""
        try:
            return dict(httpx.get(f"{self.endpoint}/health", timeout=3).json())
        except (httpx.HTTPError, ValueError):
            return {}

    def is_serving(self) -> bool:
        """Whether the API answers and the lease of every worker is good."""
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"lambdock serve has ended:\n{self.output.read_text()[-4000:]}")
        health = self.health()
        return health.get("status") == "ok" and len(health.get("workers", {})) >= self.workers

    def stop(self) -> None:
        """Drain and stop; a platform that does not stop is an error, and so is anything it left. May start again."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise AssertionError(f"lambdock serve did not stop:\n{self.output.read_text()[-4000:]}") from None
        finally:
            self._process = None
            self._remove_rest()

    def crash(self) -> None:
        """kill -9 the supervisor: the kernel ends all parts with it. Sandboxes and state stay as they are."""
        assert self._process is not None
        parts = _descendants(self._process.pid)
        self._process.kill()
        self._process.wait()
        self._process = None
        self.wait_until(lambda: not any(_command(pid)[0] for pid in parts if _command(pid)), "its parts have ended")

    def configure(self, **settings: str) -> None:
        """Change settings for the next start."""
        self._settings |= settings

    def part_pid(self, part: str) -> int:
        """Return the process id of `controller`, `controller.background`, `worker` or `redis`; the first one's."""
        return self.part_pids(part)[0]

    def part_pids(self, part: str) -> list[int]:
        """Return the process ids of all parts of one kind, at least one, in the order of their start."""
        assert self._process is not None
        found = []
        for pid in _descendants(self._process.pid):
            words = _command(pid)
            if part == "redis" and words and "redis-server" in words[0]:
                found.append(pid)
            if "-m" in words and words[words.index("-m") + 1] == part:
                found.append(pid)
        if not found:
            raise AssertionError(f"{part} is not running")
        return sorted(found)

    def kill(self, part: str) -> None:
        """kill -9 one part; the supervisor starts it again."""
        os.kill(self.part_pid(part), signal.SIGKILL)

    def signal(self, part: str, number: signal.Signals) -> None:
        """Send a signal to one part: to stop it for a while, or to end it politely."""
        os.kill(self.part_pid(part), number)

    # --- what a user does -----------------------------------------------------------------------------------------

    def client(
        self, service: str = "lambda", *, account: str = "000000000000", region: str = "us-east-1", **config: Any
    ) -> Any:
        """Return a boto3 client; `config` goes to botocore's Config. No retries, unless asked for."""
        settings: dict[str, Any] = {
            "retries": {"total_max_attempts": 1},
            "read_timeout": 120,
            "max_pool_connections": 64,
        }
        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name=region,
            aws_access_key_id=account,
            aws_secret_access_key="test",
            config=Config(**(settings | config)),
        )

    def create(self, code: str | Mapping[str, str], *, name: str = "", wait: bool = True, **parameters: Any) -> str:
        """Create a Python function whose handler is `app.handler`, wait until it is Active, return its name."""
        client = self.client()
        name = name or f"f-{uuid.uuid4().hex[:12]}"
        client.create_function(
            FunctionName=name,
            Code={"ZipFile": package(code)},
            **({"Runtime": RUNTIME, "Handler": "app.handler", "Role": ROLE, "MemorySize": 512} | parameters),
        )
        if wait:
            client.get_waiter("function_active_v2").wait(
                FunctionName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 300}
            )
        return name

    def logs(self, name: str) -> list[str]:
        """Return all lines of a function's log that the workers have."""
        lines: list[str] = []
        cursor = ""
        while True:
            answer = httpx.get(f"{self.endpoint}/_lambdock/logs/{name}", params={"cursor": cursor}, timeout=10)
            answer.raise_for_status()
            page = answer.json()
            if not page["events"]:
                return lines
            lines += [event["message"] for event in page["events"]]
            cursor = page["cursor"]

    # --- what is true -----------------------------------------------------------------------------------------------

    @contextmanager
    def redis(self) -> Iterator[redis.Redis]:
        """Connect to the platform's own Redis."""
        sockets = [line for line in _unix_sockets() if self.part_socket(line)]
        connection = redis.Redis(unix_socket_path=sockets[0])
        try:
            yield connection
        finally:
            connection.close()

    def part_socket(self, path: str) -> bool:
        """Whether a listening unix socket is this platform's Redis."""
        return path.endswith("redis.sock") and str(self.state_dir) in path

    def key(self, name: str) -> str:
        """Return a Redis key of this cell."""
        return f"lambdock:{self.cell}:{name}"

    def instances(self) -> set[str]:
        """Return the lives of workers that Redis knows, the fenced ones included."""
        with self.redis() as connection:
            return {item.decode() for item in connection.smembers(self.key("workers"))}

    def containers(self) -> list[Any]:
        """Return the engine's containers of this cell, dead ones included."""
        client = docker.from_env()
        try:
            return list(client.api.containers(all=True, filters={"label": f"lambdock={self.cell}"}))
        finally:
            client.close()

    def wait_until(self, predicate: Callable[[], bool], description: str, *, timeout_s: float = 30.0) -> None:
        """Poll until true. Fails with the description, and the end of the platform's output."""
        deadline = time.monotonic() + timeout_s
        while not predicate():
            if time.monotonic() > deadline:
                tail = self.output.read_text()[-3000:] if self.output.exists() else ""
                raise AssertionError(f"not within {timeout_s:g} s: {description}\n{tail}")
            time.sleep(0.05)

    def _remove_rest(self) -> None:
        client = docker.from_env()
        try:
            left = self.containers()
            for network in client.api.networks(filters={"label": f"lambdock={self.cell}"}):
                client.api.remove_network(network["Id"])
            for name in names_of_cell(client, self.cell):
                remove(client, name)
            assert not left, f"containers of the cell are left: {[item['Names'] for item in left]}"
        finally:
            client.close()


def settings_under_test() -> dict[str, str]:
    """Return the settings of every platform of this run."""
    settings = {}
    for kind in ("CONTROLLERS", "WORKERS"):
        if count := os.environ.get(f"LAMBDOCK_TEST_{kind}"):
            settings[f"LAMBDOCK_{kind}"] = count
    match os.environ.get("LAMBDOCK_TEST_DATABASE", "sqlite"):
        case "postgres":
            settings["LAMBDOCK_DATABASE_URL"] = _postgres().make_database()
        case "sqlite":
            pass
        case other:
            raise ValueError(f"LAMBDOCK_TEST_DATABASE is {other!r}; expected sqlite or postgres")
    return settings


@functools.cache
def _postgres() -> PostgresServer:
    """One server for all platforms of a run, until its end."""
    server = PostgresServer()
    server.__enter__()
    atexit.register(server.__exit__)
    return server


def package(code: str | Mapping[str, str]) -> bytes:
    """Return a zip of files; a string is `app.py`."""
    files = {"app.py": code} if isinstance(code, str) else code
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return buffer.getvalue()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _command(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def _descendants(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            children = [int(child) for child in (task / "children").read_text().split()]
        except OSError:
            continue
        for child in children:
            found += [child, *_descendants(child)]
    return found


def _unix_sockets() -> list[str]:
    return [line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines() if line.endswith(".sock")]
