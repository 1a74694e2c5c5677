"""One installation as the tests see it: the commands that a person types, and what the engine then holds."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
UP_DEADLINE_S = 900
DEADLINE_S = 240


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """What `make up` starts for one test run."""

    name: str
    port: int
    environment: dict[str, str] = field(repr=False)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def make(self, target: str, timeout_s: float = DEADLINE_S, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.run("make", target, timeout_s=timeout_s, **environment)

    def lambdock(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run(str(ROOT / ".venv/bin/lambdock"), *arguments, "--endpoint", self.endpoint)

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

    def docker(self, *arguments: str) -> list[str]:
        done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=60, check=True)
        return done.stdout.split()

    def leftovers(self) -> dict[str, list[str]]:
        """Everything on the engine that is ours, but for stored state."""
        found = {}
        for kind in ("container", "network"):
            everything = ["--all"] if kind == "container" else []
            for label in (f"com.docker.compose.project={self.name}", f"lambdock={self.name}"):
                found[f"{kind} {label}"] = self.docker(kind, "ls", *everything, "-q", "--filter", f"label={label}")
        found["sandbox volumes"] = self.docker("volume", "ls", "-q", "--filter", f"label=lambdock={self.name}")
        return {what: ids for what, ids in found.items() if ids}

    def state_volumes(self) -> list[str]:
        return self.docker("volume", "ls", "-q", "--filter", f"label=com.docker.compose.project={self.name}")

    def sandboxes(self) -> list[str]:
        return self.docker("container", "ls", "-q", "--filter", f"label=lambdock={self.name}")

    def service(self, name: str) -> str:
        labels = [f"label=com.docker.compose.project={self.name}", f"label=com.docker.compose.service={name}"]
        (container,) = self.docker("container", "ls", "-q", "--filter", labels[0], "--filter", labels[1])
        return container

    def inspect(self, container: str) -> dict[str, Any]:
        done = subprocess.run(
            ["docker", "container", "inspect", container], capture_output=True, text=True, timeout=60, check=True
        )
        (described,) = json.loads(done.stdout)
        return dict(described)
