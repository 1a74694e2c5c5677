"""The wire form of functions in answers."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from controller.api.params import marker
from controller.domain.arn import partition_of
from controller.domain.function import Function, FunctionVersion, version_number
from controller.domain.release import Image, ImageConfig, Package
from controller.resources.functions.lookup import Found
from controller.resources.functions.stored import shown_members

_STATE_MEMBERS = (
    "State",
    "StateReason",
    "StateReasonCode",
    "LastUpdateStatus",
    "LastUpdateStatusReason",
    "LastUpdateStatusReasonCode",
    "RuntimeVersionConfig",
)


def configuration(found: Found) -> dict[str, Any]:
    """Return the FunctionConfiguration of the version found."""
    function, version = found.function, found.version
    settings, code = version.release.settings, version.release.code
    shown: dict[str, Any] = {
        "FunctionName": function.name,
        "FunctionArn": found.arn,
        "Role": settings.role,
        "CodeSize": code.size_bytes if isinstance(code, Package) else 0,
        "Description": settings.description,
        "Timeout": settings.timeout_s,
        "MemorySize": settings.memory_mb,
        "LastModified": timestamp(version.modified_at),
        "CodeSha256": shown_digest(code),
        "Version": version.version,
        "RevisionId": version.revision_id,
        "PackageType": "Zip" if isinstance(code, Package) else "Image",
        "Architectures": [settings.architecture],
        "EphemeralStorage": {"Size": settings.ephemeral_storage_mb},
        **shown_members(settings.stored, function.name),
        **_state(version),
    }
    if isinstance(code, Package):
        shown["Runtime"] = settings.runtime
        shown["Handler"] = settings.handler
        shown["RuntimeVersionConfig"] = {"RuntimeVersionArn": _runtime_arn(function.region, settings.runtime)}
    if settings.image_config is not None:
        shown["ImageConfigResponse"] = {"ImageConfig": _image_config(settings.image_config)}
    if settings.layers:
        shown["Layers"] = [{"Arn": layer.arn, "CodeSize": layer.size_bytes} for layer in settings.layers]
    if settings.environment is not None:
        shown["Environment"] = {"Variables": dict(settings.environment)}
    return shown


def shown_digest(code: Package | Image) -> str:
    """Return CodeSha256: base64 for packages, hex for images, empty while nobody knows what a tag means."""
    if isinstance(code, Image):
        return code.sha256
    return base64.b64encode(bytes.fromhex(code.sha256)).decode()


def listed(function: Function, version: FunctionVersion, *, is_qualified: bool) -> dict[str, Any]:
    """Return the subset of FunctionConfiguration that lists have."""
    shown = configuration(Found(function=function, version=version, is_qualified=is_qualified))
    return {name: value for name, value in shown.items() if name not in _STATE_MEMBERS}


def function_page(rows: Sequence[tuple[Function, FunctionVersion]], size: int, *, is_qualified: bool) -> dict[str, Any]:
    """Return the ListFunctionsResponse; a row beyond `size` tells that another page follows."""
    page = rows[:size]
    shown: dict[str, Any] = {"Functions": [listed(*row, is_qualified=is_qualified) for row in page]}
    if len(rows) > size:
        function, version = page[-1]
        shown["NextMarker"] = marker(function.name, version_number(version))
    return shown


def description_of(found: Found, link: Callable[[str], str]) -> dict[str, Any]:
    """Return the GetFunctionResponse; `link` makes a package's digest a URL."""
    shown: dict[str, Any] = {
        "Configuration": configuration(found),
        "Code": _location(found.version.release.code, link),
    }
    if found.function.tags:
        shown["Tags"] = dict(found.function.tags)
    if found.function.reserved_concurrency is not None:
        shown["Concurrency"] = {"ReservedConcurrentExecutions": found.function.reserved_concurrency}
    return shown


def _location(code: Package | Image, link: Callable[[str], str]) -> dict[str, str]:
    if isinstance(code, Package):
        return {"RepositoryType": "S3", "Location": link(code.sha256)}
    shown = {"RepositoryType": "ECR", "ImageUri": code.uri}
    if code.resolved_uri:
        shown["ResolvedImageUri"] = code.resolved_uri
    return shown


def _image_config(config: ImageConfig) -> dict[str, Any]:
    members = {
        "EntryPoint": list(config.entry_point),
        "Command": list(config.command),
        "WorkingDirectory": config.working_directory,
    }
    return {name: value for name, value in members.items() if value}


def timestamp(at: datetime) -> str:
    """Return an instant (UTC) in Lambda's form: 2026-01-31T12:00:00.000+0000."""
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}+0000"


def _state(version: FunctionVersion) -> dict[str, Any]:
    shown: dict[str, Any] = {"State": version.state.value}
    if version.state_reason is not None:
        shown["StateReason"] = version.state_reason.reason
        shown["StateReasonCode"] = version.state_reason.reason_code
    if version.update_status is not None:
        shown["LastUpdateStatus"] = version.update_status.value
    if version.update_reason is not None:
        shown["LastUpdateStatusReason"] = version.update_reason.reason
        shown["LastUpdateStatusReasonCode"] = version.update_reason.reason_code
    return shown


def _runtime_arn(region: str, runtime: str) -> str:
    digest = hashlib.sha256(f"lambdock:{runtime}".encode()).hexdigest()
    return f"arn:{partition_of(region)}:lambda:{region}::runtime:{digest}"
