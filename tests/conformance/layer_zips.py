"""Zips of layers, and of functions that look at `/opt`."""

from __future__ import annotations

import io
import stat
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.conformance.calls import unique
from tests.platform_under_test import Platform


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A file of a zip with a mode, or a symbolic link, whose data is its target."""

    data: bytes
    mode: int = 0o644
    is_link: bool = False


def layer_zip(entries: Mapping[str, str | bytes | Entry]) -> bytes:
    """Return a zip like `zip -y` makes it on Linux."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            entry = content if isinstance(content, Entry) else Entry(data=_bytes(content))
            info = zipfile.ZipInfo(name)
            info.create_system = 3
            kind = stat.S_IFLNK if entry.is_link else stat.S_IFREG
            info.external_attr = (kind | entry.mode) << 16
            archive.writestr(info, entry.data)
    return buffer.getvalue()


def link(target: str) -> Entry:
    return Entry(data=target.encode(), mode=0o777, is_link=True)


def program(text: str) -> Entry:
    return Entry(data=text.encode(), mode=0o755)


def zeros(count_bytes: int) -> bytes:
    """Return a zip that is small, and unzips to so many bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("app.py", f"# {unique()}\ndef handler(event, context):\n    return 1\n")
        with archive.open("zeros", "w") as entry:
            for _ in range(count_bytes >> 20):
                entry.write(bytes(1 << 20))
    return buffer.getvalue()


def layer_name() -> str:
    return f"l-{unique()[:12]}"


def publish(
    platform: Platform, entries: Mapping[str, str | bytes | Entry], *, name: str = "", client: Any = None
) -> str:
    """Publish a layer version; return its ARN."""
    answer = (client or platform.client()).publish_layer_version(
        LayerName=name or layer_name(), Content={"ZipFile": layer_zip(entries)}
    )
    arn: str = answer["LayerVersionArn"]
    return arn


def _bytes(content: str | bytes) -> bytes:
    return content.encode() if isinstance(content, str) else content
