"""The wire form of published versions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from controller.api.params import marker
from controller.api.wire import WireModel
from controller.domain import errors
from controller.domain.function import Function, FunctionVersion, version_number
from controller.domain.validation import check_members
from controller.resources.functions.answers import listed
from controller.resources.versions.service import Publication


class PublishVersionRequest(WireModel):
    """The body of PublishVersion."""

    CodeSha256: str | None = None
    Description: str | None = None
    RevisionId: str | None = None
    PublishTo: str | None = None

    def to_publication(self) -> Publication:
        """Return what is asked for. Raises LambdaError for whatever Lambda would not accept."""
        check_members(self.members())
        if self.PublishTo:
            raise errors.not_supported("PublishTo", "versions are published by number")
        return Publication(code_sha256=self.CodeSha256, description=self.Description, revision_id=self.RevisionId)


def version_page(function: Function, versions: Sequence[FunctionVersion], size: int) -> dict[str, Any]:
    """Return the ListVersionsByFunctionResponse; a version beyond `size` tells that another page follows."""
    page = versions[:size]
    shown: dict[str, Any] = {"Versions": [listed(function, version, is_qualified=True) for version in page]}
    if len(versions) > size:
        shown["NextMarker"] = marker(function.name, version_number(page[-1]))
    return shown
