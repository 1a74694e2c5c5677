"""A function that runs whatever Python a test sends it: the worst tenant, on the running platform."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import docker

from tests.platform_under_test import Platform

#: `result` is the answer; `invocation` is the context. State stays in `kept` for as long as the environment lives.
CODE = """
kept = {}
def handler(event, context):
    scope = {"kept": kept, "invocation": context, "event": event}
    exec(event["code"], scope)
    return scope.get("result")
"""
ECHO = "def handler(event, context):\n    return event\n"


@dataclass(frozen=True)
class Answer:
    """What one invocation came to."""

    value: Any
    error: str | None


class Attacker:
    """One function of the attacker's, and what it answers."""

    def __init__(self, platform: Platform, *, name: str = "", **parameters: Any) -> None:
        """Create the function, or take the one of that name, whose code is `CODE`."""
        self.platform = platform
        self.name = name or platform.create(CODE, **({"Timeout": 30} | parameters))
        self._client = platform.client()

    def try_to(self, code: str, **values: Any) -> Answer:
        """Run `code` inside; `values` are its `event`."""
        answer = self._client.invoke(FunctionName=self.name, Payload=json.dumps({"code": code, **values}))
        return Answer(json.loads(answer["Payload"].read()), answer.get("FunctionError"))

    def see(self, code: str, **values: Any) -> Any:
        """Run code that must not fail, and return its `result`."""
        answer = self.try_to(code, **values)
        assert answer.error is None, answer.value
        return answer.value

    def container(self) -> dict[str, Any]:
        """Return the engine's inspection of this function's only container."""
        return container_of(self.platform, self.name)


def container_of(platform: Platform, name: str) -> dict[str, Any]:
    """Return the engine's inspection of a function's only container; of an image's, with the network that it joined."""
    found = [item for item in platform.containers() if item["Labels"]["lambdock.function"] == name]
    client = docker.from_env()
    try:
        inspected = [dict(client.api.inspect_container(item["Id"])) for item in found]
    finally:
        client.close()
    joined = [item for item in inspected if item["HostConfig"]["NetworkMode"].startswith("container:")]
    owners = [item for item in inspected if item not in joined]
    assert (len(owners), len(joined)) in {(1, 0), (1, 1)}, found
    return joined[0] | {"NetworkSettings": owners[0]["NetworkSettings"]} if joined else owners[0]


def address_of(inspection: dict[str, Any]) -> str:
    """Return a container's address on the functions' bridge."""
    (network,) = inspection["NetworkSettings"]["Networks"].values()
    return str(network["IPAddress"])
