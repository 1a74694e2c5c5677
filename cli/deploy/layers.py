"""Folders as layer versions: a new one is published only when the folder's content has changed."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from cli.deploy.manifest import Manifest
from cli.deploy.package import build_package
from cli.errors import UsageError

_LAYER_NAME = re.compile(r"[A-Za-z0-9_-]{1,140}")


def sha256_of(package: bytes) -> str:
    """Return an archive's digest as Lambda writes it."""
    return base64.b64encode(hashlib.sha256(package).digest()).decode()


def layer_name(function_name: str, folder: Path) -> str:
    """Return the layer that holds `folder` for a function: one of its own, so that projects never share by accident.

    Raises: `UsageError` for a folder whose name a layer cannot have.
    """
    plain = function_name.rpartition(":function:")[2].partition(":")[0]
    name = f"{plain}-{folder.resolve().name}"
    if not _LAYER_NAME.fullmatch(name):
        raise UsageError(
            f"the layer folder {folder} would become the layer {name!r}, and names of layers are 1 to 140 letters, "
            "digits, - and _: rename the folder"
        )
    return name


def pack_layers(manifest: Manifest) -> dict[Path, bytes]:
    """Return the archive of each folder among the manifest's layers. Raises: `UsageError`; nothing is sent yet."""
    folders = [layer for layer in manifest.layers or () if isinstance(layer, Path)]
    names = [layer_name(manifest.name or "", folder) for folder in folders]
    for at, name in enumerate(names):
        if name in names[:at]:
            raise UsageError(
                f"{folders[names.index(name)]} and {folders[at]} would both become the layer {name}: rename one of them"
            )
    return {folder: build_package(folder) for folder in folders}


class LayerPublisher:
    """Turns a manifest's layers into ARNs of layer versions."""

    def __init__(self, client: Any, progress: Callable[[str], None]) -> None:
        self._client = client
        self._progress = progress

    def publish(self, manifest: Manifest, packages: dict[Path, bytes]) -> tuple[str, ...] | None:
        """Return the ARNs, in the manifest's order, publishing the folders that changed; None if it says nothing."""
        if manifest.layers is None:
            return None
        return tuple(
            layer if isinstance(layer, str) else self._version_of(manifest, layer, packages[layer])
            for layer in manifest.layers
        )

    def _version_of(self, manifest: Manifest, folder: Path, package: bytes) -> str:
        name = layer_name(manifest.name or "", folder)
        newest = self._newest(name)
        if newest is not None and newest["Content"]["CodeSha256"] == sha256_of(package):
            return str(newest["LayerVersionArn"])
        self._progress(f"Publishing layer {name} ({len(package) / 1e6:.1f} MB)")
        published = self._client.publish_layer_version(
            LayerName=name,
            Description=f"{folder.resolve().name} of {manifest.name}",
            Content={"ZipFile": package},
            **_compatible(runtimes=manifest.runtime, architectures=manifest.arch),
        )
        return str(published["LayerVersionArn"])

    def _newest(self, name: str) -> dict[str, Any] | None:
        try:
            versions: Sequence[dict[str, Any]] = self._client.list_layer_versions(LayerName=name, MaxItems=1)[
                "LayerVersions"
            ]
            if not versions:
                return None
            newest: dict[str, Any] = self._client.get_layer_version(
                LayerName=name, VersionNumber=versions[0]["Version"]
            )
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") == "ResourceNotFoundException":
                return None
            raise
        return newest


def _compatible(*, runtimes: str | None, architectures: str | None) -> dict[str, list[str]]:
    said = {"CompatibleRuntimes": runtimes, "CompatibleArchitectures": architectures}
    return {key: [value] for key, value in said.items() if value is not None}
