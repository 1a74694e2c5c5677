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
    PreparationFailure,
    State,
    UpdateStatus,
    version_number,
)
from controller.domain.release import Image, ImageConfig, LayerUse, Package, Release, Settings

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
        "live": release_text(live) if live is not None else None,
        "live_sha256": _blob(live) if live is not None else None,
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
        live=release_from(row["live"]) if row["live"] is not None else None,
        generation=row["generation"],
        reserved_concurrency=row["reserved_concurrency"],
        tags=orjson.loads(row["tags"]),
        last_version=row["last_version"],
    )


def version_from(row: Row) -> FunctionVersion:
    """Read a row of `function_versions`."""
    return _version(row, row["function_uid"], str(row["number"]))


def _version_columns(version: FunctionVersion) -> dict[str, Any]:
    since, code = version.preparing_since, version.release.code
    return {
        "release": release_text(version.release),
        "code_sha256": _blob(version.release),
        # Of packages only: Lambda counts no image towards an account's code.
        "code_bytes": code.size_bytes if isinstance(code, Package) else 0,
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
        release=release_from(row["release"]),
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


def release_text(release: Release) -> str:
    """Return a release as it is stored: JSON, the code as `package` or as `image`."""
    kind = "image" if isinstance(release.code, Image) else "package"
    return orjson.dumps({"settings": asdict(release.settings), kind: asdict(release.code)}).decode()


def release_from(raw: str) -> Release:
    """Read what `release_text` of this or an earlier release of the platform wrote."""
    data = orjson.loads(raw)
    settings = dict(data["settings"])
    # Missing in rows that are older than layers and images.
    settings["layers"] = tuple(LayerUse(**layer) for layer in settings.get("layers") or ())
    if config := settings.get("image_config"):
        settings["image_config"] = ImageConfig(
            entry_point=tuple(config["entry_point"]),
            command=tuple(config["command"]),
            working_directory=config["working_directory"],
        )
    code = Image(**data["image"]) if "image" in data else Package(**data["package"])
    return Release(settings=Settings(**settings), code=code)


def _blob(release: Release) -> str:
    code = release.code
    return code.manifest_sha256 if isinstance(code, Image) else code.sha256


def _reason(reason: PreparationFailure | None) -> str | None:
    return orjson.dumps(asdict(reason)).decode() if reason is not None else None


def _parsed_reason(raw: str | None) -> PreparationFailure | None:
    return PreparationFailure(**orjson.loads(raw)) if raw is not None else None


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def _parsed_instant(raw: str) -> datetime:
    return datetime.fromisoformat(raw)
