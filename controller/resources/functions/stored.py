"""The members of a function that are kept and returned as written, and what Lambda returns where none was."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Not enforced in this release: networks, tracing, dead letters, log formats, snapshots, file systems and keys.
STORED_MEMBERS = (
    "VpcConfig",
    "DeadLetterConfig",
    "KMSKeyArn",
    "TracingConfig",
    "FileSystemConfigs",
    "SnapStart",
    "LoggingConfig",
)


def stored_members(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members of a request that are kept as written."""
    return {name: request[name] for name in STORED_MEMBERS if name in request}


def shown_members(stored: Mapping[str, Any], function_name: str) -> dict[str, Any]:
    """Return these members as an answer has them, with Lambda's defaults."""
    snap_start = stored.get("SnapStart") or {}
    shown: dict[str, Any] = {
        "TracingConfig": {"Mode": (stored.get("TracingConfig") or {}).get("Mode") or "PassThrough"},
        "SnapStart": {"ApplyOn": snap_start.get("ApplyOn") or "None", "OptimizationStatus": "Off"},
        "LoggingConfig": _logging(stored.get("LoggingConfig") or {}, function_name),
    }
    for name in ("DeadLetterConfig", "KMSKeyArn", "FileSystemConfigs"):
        # An empty target, key or list is how a caller removes one.
        if any(stored[name].values() if isinstance(stored.get(name), dict) else [stored.get(name)]):
            shown[name] = stored[name]
    vpc = stored.get("VpcConfig")
    if vpc is not None:
        shown["VpcConfig"] = {
            "SubnetIds": vpc.get("SubnetIds") or [],
            "SecurityGroupIds": vpc.get("SecurityGroupIds") or [],
            "VpcId": "",
            "Ipv6AllowedForDualStack": bool(vpc.get("Ipv6AllowedForDualStack")),
        }
    return shown


def _logging(stored: Mapping[str, Any], function_name: str) -> dict[str, Any]:
    shown = {"LogFormat": stored.get("LogFormat") or "Text"}
    if shown["LogFormat"] == "JSON":
        shown["ApplicationLogLevel"] = stored.get("ApplicationLogLevel") or "INFO"
        shown["SystemLogLevel"] = stored.get("SystemLogLevel") or "INFO"
    shown["LogGroup"] = stored.get("LogGroup") or f"/aws/lambda/{function_name}"
    return shown
