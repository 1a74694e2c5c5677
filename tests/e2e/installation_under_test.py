"""One installation as the tests see it: the commands that a person types, and what the engine then holds."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import time
import urllib.request
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

ROOT = Path(__file__).resolve().parent.parent.parent
UP_DEADLINE_S = 900
DEADLINE_S = 240

SERVICES = ("redis", "controller", "background", "worker")
_FUNCTION: dict[str, Any] = {
    "Runtime": "python3.11",
    "Handler": "app.handler",
    "Role": "arn:aws:iam::000000000000:role/lambda-role",
    "MemorySize": 256,
    "Timeout": 60,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """What `make up` starts for one test run."""

    name: str
    port: int
    environment: dict[str, str] = field(repr=False)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    # --- what a person types --------------------------------------------------------------------------------------

    def make(self, target: str, timeout_s: float = DEADLINE_S, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.run("make", target, timeout_s=timeout_s, **environment)

    def up(self) -> str:
        """`make up`, which must go well; returns what it printed."""
        done = self.make("up", timeout_s=UP_DEADLINE_S)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def see_that_it_runs(self) -> None:
        """`make up`, unless all of it runs already."""
        if not all(self.containers(service) for service in SERVICES) or not self.is_ready():
            self.up()

    def command(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """One of the commands that the set-up has installed."""
        return self.run(str(ROOT / ".venv/bin" / name), *arguments)

    def lambdock(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.command("lambdock", *arguments, "--endpoint", self.endpoint)

    def compose(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        env_file = self.environment["LAMBDOCK_ENV_FILE"]
        done = self.run("bash", "deploy/compose.sh", "--env-file", env_file, "-p", self.name, *arguments)
        assert done.returncode == 0, done.stdout
        return done

    def run(self, *command: str, timeout_s: float = DEADLINE_S, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=ROOT,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    # --- what a program does --------------------------------------------------------------------------------------

    def client(self) -> Any:
        return boto3.client(
            "lambda",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id="any",
            aws_secret_access_key="any",
            config=Config(retries={"total_max_attempts": 1}, read_timeout=120),
        )

    def create(self, name: str, code: str) -> None:
        """Create a function whose handler is `app.handler`, and wait until it is active."""
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as package:
            package.writestr("app.py", code)
        client = self.client()
        client.create_function(FunctionName=name, Code={"ZipFile": archive.getvalue()}, **_FUNCTION)
        client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 120})

    def invoke(self, name: str, event: object) -> Any:
        """Return the function's answer; an error of the function is a failure."""
        answer = self.client().invoke(FunctionName=name, Payload=json.dumps(event).encode())
        body = answer["Payload"].read()
        assert "FunctionError" not in answer, body[:2000]
        return json.loads(body)

    def health(self) -> dict[str, Any]:
        """What `/health` says; empty when nothing answers."""
        try:
            with urllib.request.urlopen(f"{self.endpoint}/health", timeout=5) as response:
                return dict(json.load(response))
        except (OSError, ValueError):
            return {}

    def is_ready(self, workers: int = 1) -> bool:
        said = self.health()
        placeable = [name for name, worker in said.get("workers", {}).items() if worker["placeable"]]
        return said.get("status") == "ok" and len(placeable) == workers

    def wait_until(self, predicate: Callable[[], bool], description: str, *, timeout_s: float = 60) -> None:
        deadline = time.monotonic() + timeout_s
        while not predicate():
            assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {description}; health: {self.health()}"
            time.sleep(0.2)

    # --- what the engine holds ------------------------------------------------------------------------------------

    def docker(self, *arguments: str) -> list[str]:
        done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=60, check=True)
        return done.stdout.split()

    def containers(self, service: str) -> list[str]:
        """Ids of a service's running containers."""
        labels = [f"label=com.docker.compose.project={self.name}", f"label=com.docker.compose.service={service}"]
        return self.docker("container", "ls", "-q", "--filter", labels[0], "--filter", labels[1])

    def service(self, name: str) -> str:
        (container,) = self.containers(name)
        return container

    def sandboxes(self) -> list[str]:
        return self.docker("container", "ls", "-q", "--filter", f"label=lambdock={self.name}")

    def sandboxes_of(self, function: str) -> dict[str, int]:
        """Count a function's sandboxes by their worker."""
        filters = ["--filter", f"label=lambdock={self.name}", "--filter", f"label=lambdock.function={function}"]
        return dict(Counter(self.docker("container", "ls", *filters, "--format", '{{.Label "lambdock.worker"}}')))

    def inspect(self, container: str) -> dict[str, Any]:
        done = subprocess.run(
            ["docker", "container", "inspect", container], capture_output=True, text=True, timeout=60, check=True
        )
        (described,) = json.loads(done.stdout)
        return dict(described)

    def addresses(self, service: str) -> list[str]:
        networks = self.inspect(self.service(service))["NetworkSettings"]["Networks"]
        return [network["IPAddress"] for network in networks.values()]

    def kill(self, service: str) -> None:
        """kill -9 of a service's main process, as a crash; the engine starts it again."""
        os.kill(self.inspect(self.service(service))["State"]["Pid"], signal.SIGKILL)

    def leftovers(self) -> dict[str, list[str]]:
        """Everything on the engine that is ours, but for stored state; and loop devices of it."""
        found = {}
        for kind in ("container", "network"):
            everything = ["--all"] if kind == "container" else []
            for label in (f"com.docker.compose.project={self.name}", f"lambdock={self.name}"):
                found[f"{kind} {label}"] = self.docker(kind, "ls", *everything, "-q", "--filter", f"label={label}")
        found["sandbox volumes"] = self.docker("volume", "ls", "-q", "--filter", f"label=lambdock={self.name}")
        found["loop devices"] = [
            device.parent.parent.name
            for device in Path("/sys/block").glob("loop*/loop/backing_file")
            if self.name in _read(device)
        ]
        return {what: ids for what, ids in found.items() if ids}

    def state_volumes(self) -> list[str]:
        return self.docker("volume", "ls", "-q", "--filter", f"label=com.docker.compose.project={self.name}")


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:  # gone meanwhile
        return ""
