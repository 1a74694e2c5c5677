"""The wire form of layers: requests into domain values, domain values into answers."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.requests import Request

from controller.api.params import marker
from controller.api.wire import WireModel
from controller.domain import errors
from controller.domain.layer import LayerName, LayerVersion
from controller.packages.wire import ContentModel, package_source
from controller.resources.functions.answers import timestamp
from controller.resources.layers.constraints import check_layer_members
from controller.resources.layers.ports import Compatibility
from controller.resources.layers.service import NewLayerVersion


class PublishLayerVersionRequest(WireModel):
    """The body of PublishLayerVersion."""

    Content: ContentModel | None = None
    Description: str | None = None
    CompatibleRuntimes: list[str] | None = None
    CompatibleArchitectures: list[str] | None = None
    LicenseInfo: str | None = None

    def check(self) -> None:
        """Raise ValidationFailedError for whatever the service model forbids."""
        content = self.Content.members() if self.Content is not None else None
        check_layer_members(
            {
                "content": content,
                **{f"content.{name[:1].lower()}{name[1:]}": value for name, value in (content or {}).items()},
                "description": self.Description,
                "licenseInfo": self.LicenseInfo,
                "compatibleRuntimes": self.CompatibleRuntimes,
                "compatibleArchitectures": self.CompatibleArchitectures,
            },
            required=("content",),
        )

    def to_new_version(self, layer: LayerName) -> NewLayerVersion:
        """Return the version asked for. Raises LambdaError for contents that Lambda would not accept."""
        return NewLayerVersion(
            layer=layer,
            source=package_source((self.Content or ContentModel()).members(), missing=errors.LAYER_CONTENT_MISSING),
            description=self.Description or "",
            license_info=self.LicenseInfo or "",
            # Each once, in the caller's order.
            compatible_runtimes=tuple(dict.fromkeys(self.CompatibleRuntimes or ())),
            compatible_architectures=tuple(dict.fromkeys(self.CompatibleArchitectures or ())),
        )


def number_of(request: Request) -> int:
    """Return the version number of the path. Raises SerializationError for what is no number."""
    raw: str = request.path_params["VersionNumber"]
    if re.fullmatch(r"-?[0-9]{1,19}", raw, re.ASCII) is None:
        raise errors.SerializationError(f"{raw!r} at 'versionNumber' can not be converted to a Long")
    return int(raw)


def compatibility_of(query: Mapping[str, str]) -> Compatibility:
    """Return the filter of a list. Raises ValidationFailedError."""
    runtime, architecture = query.get("CompatibleRuntime"), query.get("CompatibleArchitecture")
    check_layer_members({"compatibleRuntime": runtime, "compatibleArchitecture": architecture})
    return Compatibility(runtime=runtime, architecture=architecture)


def limit_of(query: Mapping[str, str]) -> int | None:
    """Return MaxItems. Raises ValidationFailedError outside 1-50, SerializationError for what is no number."""
    raw = query.get("MaxItems")
    if raw is None:
        return None
    if re.fullmatch(r"-?[0-9]{1,9}", raw, re.ASCII) is None:
        raise errors.SerializationError("STRING_VALUE can not be converted to an Integer")
    check_layer_members({"maxItems": int(raw)})
    return int(raw)


def description_of(version: LayerVersion, code_url: str) -> dict[str, Any]:
    """Return the GetLayerVersionResponse, which is also PublishLayerVersion's."""
    return {
        "Content": {
            "Location": code_url,
            "CodeSha256": base64.b64encode(bytes.fromhex(version.package.sha256)).decode(),
            "CodeSize": version.package.size_bytes,
        },
        "LayerArn": version.layer_arn,
        **listed(version),
    }


def listed(version: LayerVersion) -> dict[str, Any]:
    """Return the LayerVersionsListItem."""
    shown: dict[str, Any] = {
        "LayerVersionArn": version.arn,
        "Version": version.number,
        "Description": version.description,
        "CreatedDate": timestamp(version.created_at),
    }
    if version.compatible_runtimes:
        shown["CompatibleRuntimes"] = list(version.compatible_runtimes)
    if version.compatible_architectures:
        shown["CompatibleArchitectures"] = list(version.compatible_architectures)
    if version.license_info:
        shown["LicenseInfo"] = version.license_info
    return shown


def layer_page(versions: Sequence[LayerVersion], size: int) -> dict[str, Any]:
    """Return the ListLayersResponse; a layer beyond `size` tells that another page follows."""
    page = versions[:size]
    shown: dict[str, Any] = {
        "Layers": [
            {"LayerName": one.name, "LayerArn": one.layer_arn, "LatestMatchingVersion": listed(one)} for one in page
        ]
    }
    if len(versions) > size:
        shown["NextMarker"] = marker(page[-1].name)
    return shown


def version_page(versions: Sequence[LayerVersion], size: int) -> dict[str, Any]:
    """Return the ListLayerVersionsResponse; a version beyond `size` tells that another page follows."""
    page = versions[:size]
    shown: dict[str, Any] = {"LayerVersions": [listed(one) for one in page]}
    if len(versions) > size:
        shown["NextMarker"] = marker(page[-1].name, page[-1].number)
    return shown
