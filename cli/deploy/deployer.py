"""Bring a function to the state that a manifest and its code describe, with as few calls as it takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError, WaiterError

from cli.deploy.layers import sha256_of
from cli.deploy.manifest import Manifest
from cli.errors import CliError, UsageError

#: The API wants a role; the platform gives functions no AWS permissions by it.
ROLE = "arn:aws:iam::000000000000:role/lambdock"
#: How often and how long a new state is waited for: 5 minutes, for code that is prepared meanwhile.
WAITER = {"Delay": 1, "MaxAttempts": 300}


@dataclass(frozen=True, slots=True)
class Archive:
    """A function's code as a zip."""

    package: bytes
    package_type = "Zip"

    def parameters(self) -> dict[str, Any]:
        """Return the code as the API's parameters."""
        return {"ZipFile": self.package}


@dataclass(frozen=True, slots=True)
class ContainerImage:
    """A function's code as a container image."""

    uri: str
    package_type = "Image"

    def parameters(self) -> dict[str, Any]:
        """Return the code as the API's parameters."""
        return {"ImageUri": self.uri}


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What came of it: `outcome` is created, updated or unchanged."""

    arn: str
    name: str
    outcome: str
    code_sha256: str
    layers: tuple[str, ...] = ()
    image_uri: str | None = None


class Deployer:
    """Creates or updates one function at a time; deploying the same again changes nothing."""

    def __init__(self, client: Any, progress: Callable[[str], None]) -> None:
        self._client = client
        self._progress = progress

    def deploy(
        self, manifest: Manifest, code: Archive | ContainerImage, layers: Sequence[str] | None = None
    ) -> Deployment:
        """Return once the function is active with this code, these layers (None: those it has) and these settings.

        Raises: `UsageError` when a new function lacks a runtime or handler, or code of this kind cannot replace what
        the function has; `CliError` with AWS's reason when the platform cannot make it ready; botocore's errors for
        what AWS refuses.
        """
        name = manifest.name or ""
        settings = settings_of(manifest, layers)
        present = self._present(name)
        if present is None:
            self._create(name, manifest, code, settings)
            return self._deployment(name, code, "created")
        _check_kind(present, code)
        is_changed = self._update_code(name, manifest, code, present)
        is_changed = self._update_settings(name, settings, present) or is_changed
        return self._deployment(name, code, "updated" if is_changed else "unchanged")

    def _present(self, name: str) -> dict[str, Any] | None:
        try:
            present = self._configuration(name)
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") == "ResourceNotFoundException":
                return None
            raise
        if present.get("State") == "Pending":
            self._wait("function_active_v2", name, "Waiting for the last deployment", is_failure_ours=False)
        elif present.get("LastUpdateStatus") == "InProgress":
            self._wait("function_updated_v2", name, "Waiting for the last deployment", is_failure_ours=False)
        else:
            return present
        return self._configuration(name)

    def _configuration(self, name: str) -> dict[str, Any]:
        configuration: dict[str, Any] = self._client.get_function_configuration(FunctionName=name)
        return configuration

    def _create(self, name: str, manifest: Manifest, code: Archive | ContainerImage, settings: dict[str, Any]) -> None:
        if isinstance(code, Archive):
            for key in ("runtime", "handler"):
                if getattr(manifest, key) is None:
                    raise UsageError(
                        f'a new function needs a {key}: pass --{key}, or write {key} = "…" in lambdock.toml'
                    )
        self._progress(f"Creating {name}")
        self._client.create_function(
            FunctionName=name,
            Role=ROLE,
            PackageType=code.package_type,
            Code=code.parameters(),
            **settings,
            **({"Architectures": [manifest.arch]} if manifest.arch else {}),
        )
        self._wait("function_active_v2", name, "Preparing the code")

    def _update_code(
        self, name: str, manifest: Manifest, code: Archive | ContainerImage, present: dict[str, Any]
    ) -> bool:
        is_same_arch = manifest.arch is None or present.get("Architectures", [manifest.arch]) == [manifest.arch]
        before = self._resolved_image(name) if isinstance(code, ContainerImage) else ("", "")
        if is_same_arch and not _is_broken(present) and _is_present(code, present, before[0]):
            return False
        self._progress(f"Updating the code of {name}")
        self._client.update_function_code(
            FunctionName=name,
            **code.parameters(),
            **({"Architectures": [manifest.arch]} if manifest.arch else {}),
        )
        self._wait("function_updated_v2", name, "Preparing the code")
        # A tag that still means the same image is not a change.
        return not (
            is_same_arch and isinstance(code, ContainerImage) and before[1] and self._resolved_image(name) == before
        )

    def _resolved_image(self, name: str) -> tuple[str, str]:
        """Return the function's ImageUri as it was written, and with the digest that it had then."""
        code = self._client.get_function(FunctionName=name).get("Code", {})
        return str(code.get("ImageUri", "")), str(code.get("ResolvedImageUri", ""))

    def _update_settings(self, name: str, settings: dict[str, Any], present: dict[str, Any]) -> bool:
        changes = {key: value for key, value in settings.items() if _present_value(present, key) != value}
        if not changes:
            return False
        self._progress(f"Updating the settings of {name}")
        self._client.update_function_configuration(FunctionName=name, **changes)
        self._wait("function_updated_v2", name, "Waiting for the settings")
        return True

    def _wait(self, waiter: str, name: str, step: str, *, is_failure_ours: bool = True) -> None:
        self._progress(step)
        try:
            self._client.get_waiter(waiter).wait(FunctionName=name, WaiterConfig=WAITER)
        except WaiterError as error:
            configuration = self._configuration(name)
            if is_failure_ours or not _is_broken(configuration):
                raise CliError(_why_not_ready(name, configuration, error)) from None

    def _deployment(self, name: str, code: Archive | ContainerImage, outcome: str) -> Deployment:
        configuration = self._configuration(name)
        return Deployment(
            arn=str(configuration["FunctionArn"]),
            name=str(configuration["FunctionName"]),
            outcome=outcome,
            code_sha256=str(configuration.get("CodeSha256", "")),
            layers=tuple(str(layer["Arn"]) for layer in configuration.get("Layers", [])),
            image_uri=code.uri if isinstance(code, ContainerImage) else None,
        )


def settings_of(manifest: Manifest, layers: Sequence[str] | None = None) -> dict[str, Any]:
    """Return what a manifest says, as the API's parameters; `layers` are its layers as ARNs."""
    image_config = {
        "EntryPoint": None if manifest.entry_point is None else list(manifest.entry_point),
        "Command": None if manifest.command is None else list(manifest.command),
        "WorkingDirectory": manifest.working_directory,
    }
    said = {
        "Runtime": manifest.runtime,
        "Handler": manifest.handler,
        "MemorySize": manifest.memory,
        "Timeout": manifest.timeout,
        "Layers": None if layers is None else list(layers),
        "Environment": None if manifest.env is None else {"Variables": dict(manifest.env)},
        # Replaced as a whole, so whoever sets one of its parts resets those that are not said.
        "ImageConfig": {key: value for key, value in image_config.items() if value is not None} or None,
    }
    return {key: value for key, value in said.items() if value is not None}


def _present_value(present: dict[str, Any], key: str) -> Any:
    match key:
        case "Environment":
            return {"Variables": present.get("Environment", {}).get("Variables", {})}
        case "Layers":
            return [layer["Arn"] for layer in present.get("Layers", [])]
        case "ImageConfig":
            return present.get("ImageConfigResponse", {}).get("ImageConfig")
        case _:
            return present.get(key)


def _is_present(code: Archive | ContainerImage, present: dict[str, Any], present_uri: str) -> bool:
    """Tell whether the function surely has this code: only an image named by digest is certain to be the same one."""
    if isinstance(code, Archive):
        return present.get("CodeSha256") == sha256_of(code.package)
    return present_uri == code.uri and "@sha256:" in code.uri


def _is_broken(present: dict[str, Any]) -> bool:
    """Tell whether the last deployment was not taken over, whatever the configuration says that it was to be."""
    return present.get("State") == "Failed" or present.get("LastUpdateStatus") == "Failed"


def _check_kind(present: dict[str, Any], code: Archive | ContainerImage) -> None:
    kind = present.get("PackageType", "Zip")
    if kind != code.package_type:
        name = present["FunctionName"]
        raise UsageError(
            f"{name} has PackageType {kind}, which cannot be changed to {code.package_type}: "
            f"deploy under another name, or `lambdock delete {name}` first"
        )


def _why_not_ready(name: str, configuration: dict[str, Any], error: WaiterError) -> str:
    for status, prefix in (("State", "StateReason"), ("LastUpdateStatus", "LastUpdateStatusReason")):
        if configuration.get(status) == "Failed":
            code, reason = configuration.get(f"{prefix}Code", "Unknown"), configuration.get(prefix, "no reason given")
            return f"{name} could not be made ready: {code}: {reason}"
    waited = WAITER["Delay"] * WAITER["MaxAttempts"]
    return f"{name} was not ready within {waited} s ({error}); `lambdock health` tells which worker is missing"
