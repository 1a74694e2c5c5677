"""Turns functions and versions into rows and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import orjson

from controller.domain.arn import LATEST
from controller.domain.function import (
    Function,
    FunctionVersion,
    Package,
    PreparationFailure,
    Release,
    Settings,
    State,
    UpdateStatus,
    version_number,
)

Row = Mapping[Any, Any]


def function_row(function: Function) -> dict[str, Any]:
    """Return all columns of `functions`."""
    live = function.live
    return {
        "uid": function.uid,
        "account": function.account,
        "region": function.region,
        "name": function.name,
        "created_at": _instant(function.created_at),
        "generation": function.generation,
        "reserved_concurrency": function.reserved_concurrency,
        "tags": orjson.dumps(dict(function.tags)).decode(),
        "last_version": function.last_version,
        "live": _release(live) if live is not None else None,
        "live_sha256": live.package.sha256 if live is not None else None,
        **_version_columns(function.head),
    }


def version_row(version: FunctionVersion) -> dict[str, Any]:
    """Return all columns of `function_versions`."""
    return {
        "function_uid": version.function_uid,
        "number": version_number(version),
        **_version_columns(version),
    }


def function_from(row: Row) -> Function:
    """Read a row of `functions`."""
    return Function(
        uid=row["uid"],
        account=row["account"],
        region=row["region"],
        name=row["name"],
        created_at=_parsed_instant(row["created_at"]),
        head=_version(row, row["uid"], LATEST),
        live=_parsed_release(row["live"]) if row["live"] is not None else None,
        generation=row["generation"],
        reserved_concurrency=row["reserved_concurrency"],
        tags=orjson.loads(row["tags"]),
        last_version=row["last_version"],
    )


def version_from(row: Row) -> FunctionVersion:
    """Read a row of `function_versions`."""
    return _version(row, row["function_uid"], str(row["number"]))


def _version_columns(version: FunctionVersion) -> dict[str, Any]:
    since = version.preparing_since
    return {
        "release": _release(version.release),
        "code_sha256": version.release.package.sha256,
        "code_bytes": version.release.package.size_bytes,
        "revision_id": version.revision_id,
        "modified_at": _instant(version.modified_at),
        "state": version.state.value,
        "state_reason": _reason(version.state_reason),
        "update_status": version.update_status.value if version.update_status is not None else None,
        "update_reason": _reason(version.update_reason),
        "preparing": version.preparing,
        "preparing_since": _instant(since) if since is not None else None,
        "is_sealed": version.is_sealed,
        "origin": version.origin,
    }


def _version(row: Row, function_uid: str, version: str) -> FunctionVersion:
    since = row["preparing_since"]
    return FunctionVersion(
        function_uid=function_uid,
        version=version,
        release=_parsed_release(row["release"]),
        revision_id=row["revision_id"],
        modified_at=_parsed_instant(row["modified_at"]),
        state=State(row["state"]),
        state_reason=_parsed_reason(row["state_reason"]),
        update_status=UpdateStatus(row["update_status"]) if row["update_status"] is not None else None,
        update_reason=_parsed_reason(row["update_reason"]),
        preparing=row["preparing"],
        preparing_since=_parsed_instant(since) if since is not None else None,
        is_sealed=bool(row["is_sealed"]),
        origin=row["origin"],
    )


def _release(release: Release) -> str:
    return orjson.dumps(asdict(release)).decode()


def _parsed_release(raw: str) -> Release:
    data = orjson.loads(raw)
    return Release(settings=Settings(**data["settings"]), package=Package(**data["package"]))


def _reason(reason: PreparationFailure | None) -> str | None:
    return orjson.dumps(asdict(reason)).decode() if reason is not None else None


def _parsed_reason(raw: str | None) -> PreparationFailure | None:
    return PreparationFailure(**orjson.loads(raw)) if raw is not None else None


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def _parsed_instant(raw: str) -> datetime:
    return datetime.fromisoformat(raw)
