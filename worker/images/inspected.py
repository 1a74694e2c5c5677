"""What an engine tells of an image, read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from contract.images import ImageManifest


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionImage:
    """A function's image, on the engine, and what it says about how it wants to be run."""

    #: What the engine calls it: containers are made from this.
    image_id: str
    #: Pinned: what launches name from now on.
    uri: str
    size_bytes: int
    entry_point: tuple[str, ...]
    command: tuple[str, ...]
    environment: Mapping[str, str]
    working_directory: str
    volumes: tuple[str, ...]
    #: As the image has it: a name, a number, or either with a group.
    user: str


def is_of(image: Mapping[str, Any], manifest: ImageManifest) -> bool:
    """Whether the engine's image is this one: by its id, or, where ids are other digests, by its layers."""
    if image["Id"] == f"sha256:{manifest.config}":
        return True
    layers = (image.get("RootFS") or {}).get("Layers")
    return bool(layers == [f"sha256:{layer.diff_id}" for layer in manifest.layers])


def named_at(image: Mapping[str, Any]) -> float:
    """Return when the image was last given a name; engines write the year 1 for never."""
    raw = str((image.get("Metadata") or {}).get("LastTagTime") or "")
    try:
        # Nanoseconds are more than Python reads.
        return datetime.fromisoformat(raw[:19]).replace(tzinfo=UTC).timestamp()
    except (ValueError, OverflowError):
        return 0.0


def described(image: Mapping[str, Any], uri: str) -> FunctionImage:
    """Return what launches need to know of the image."""
    config = image.get("Config") or {}
    pairs = (item.partition("=") for item in config.get("Env") or ())
    return FunctionImage(
        image_id=str(image["Id"]),
        uri=uri,
        size_bytes=int(image.get("Size", 0)),
        entry_point=tuple(config.get("Entrypoint") or ()),
        command=tuple(config.get("Cmd") or ()),
        environment={key: value for key, _, value in pairs},
        working_directory=str(config.get("WorkingDir") or ""),
        volumes=tuple(config.get("Volumes") or ()),
        user=str(config.get("User") or ""),
    )
