"""Bring a function to the state that a manifest and a package describe, with as few calls as it takes."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from cli.deploy.manifest import Manifest
from cli.errors import UsageError

#: The API wants a role; the platform gives functions no AWS permissions by it.
ROLE = "arn:aws:iam::000000000000:role/lambdock"
#: How often and how long a new state is waited for: 5 minutes, for code that is prepared meanwhile.
WAITER = {"Delay": 1, "MaxAttempts": 300}


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What came of it: `outcome` is created, updated or unchanged."""

    arn: str
    name: str
    outcome: str
    code_sha256: str


class Deployer:
    """Creates or updates one function at a time; deploying the same again changes nothing."""

    def __init__(self, client: Any, progress: Callable[[str], None]) -> None:
        self._client = client
        self._progress = progress

    def deploy(self, manifest: Manifest, package: bytes) -> Deployment:
        """Return once the function is active with this package and these settings.

        Raises: `UsageError` when a new function lacks a runtime or handler; botocore's errors for what AWS refuses.
        """
        name = manifest.name or ""
        present = self._present(name)
        if present is None:
            configuration = self._create(name, manifest, package)
            return _deployment(configuration, "created")
        is_changed = self._update_code(name, manifest, package, present)
        is_changed = self._update_settings(name, manifest, present) or is_changed
        configuration = self._client.get_function_configuration(FunctionName=name)
        return _deployment(configuration, "updated" if is_changed else "unchanged")

    def _present(self, name: str) -> dict[str, Any] | None:
        try:
            present: dict[str, Any] = self._client.get_function_configuration(FunctionName=name)
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") == "ResourceNotFoundException":
                return None
            raise
        if present.get("State") == "Pending":
            self._wait("function_active_v2", name, "Waiting for the last deployment")
        elif present.get("LastUpdateStatus") == "InProgress":
            self._wait("function_updated_v2", name, "Waiting for the last deployment")
        return present

    def _create(self, name: str, manifest: Manifest, package: bytes) -> dict[str, Any]:
        for key in ("runtime", "handler"):
            if getattr(manifest, key) is None:
                raise UsageError(f'a new function needs a {key}: pass --{key}, or write {key} = "…" in lambdock.toml')
        self._progress(f"Creating {name}")
        self._client.create_function(
            FunctionName=name,
            Role=ROLE,
            Code={"ZipFile": package},
            **settings_of(manifest),
            **({"Architectures": [manifest.arch]} if manifest.arch else {}),
        )
        self._wait("function_active_v2", name, "Preparing the code")
        configuration: dict[str, Any] = self._client.get_function_configuration(FunctionName=name)
        return configuration

    def _update_code(self, name: str, manifest: Manifest, package: bytes, present: dict[str, Any]) -> bool:
        is_same_arch = manifest.arch is None or present.get("Architectures", [manifest.arch]) == [manifest.arch]
        if present.get("CodeSha256") == _code_sha256(package) and is_same_arch:
            return False
        self._progress(f"Updating the code of {name}")
        self._client.update_function_code(
            FunctionName=name, ZipFile=package, **({"Architectures": [manifest.arch]} if manifest.arch else {})
        )
        self._wait("function_updated_v2", name, "Preparing the code")
        return True

    def _update_settings(self, name: str, manifest: Manifest, present: dict[str, Any]) -> bool:
        changes = {key: value for key, value in settings_of(manifest).items() if _present_value(present, key) != value}
        if not changes:
            return False
        self._progress(f"Updating the settings of {name}")
        self._client.update_function_configuration(FunctionName=name, **changes)
        self._wait("function_updated_v2", name, "Waiting for the settings")
        return True

    def _wait(self, waiter: str, name: str, step: str) -> None:
        self._progress(step)
        self._client.get_waiter(waiter).wait(FunctionName=name, WaiterConfig=WAITER)


def settings_of(manifest: Manifest) -> dict[str, Any]:
    """Return what a manifest says, as the API's parameters."""
    said = {
        "Runtime": manifest.runtime,
        "Handler": manifest.handler,
        "MemorySize": manifest.memory,
        "Timeout": manifest.timeout,
        "Environment": None if manifest.env is None else {"Variables": dict(manifest.env)},
    }
    return {key: value for key, value in said.items() if value is not None}


def _present_value(present: dict[str, Any], key: str) -> Any:
    if key == "Environment":
        return {"Variables": present.get("Environment", {}).get("Variables", {})}
    return present.get(key)


def _code_sha256(package: bytes) -> str:
    return base64.b64encode(hashlib.sha256(package).digest()).decode()


def _deployment(configuration: dict[str, Any], outcome: str) -> Deployment:
    return Deployment(
        arn=str(configuration["FunctionArn"]),
        name=str(configuration["FunctionName"]),
        outcome=outcome,
        code_sha256=str(configuration.get("CodeSha256", "")),
    )
