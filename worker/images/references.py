"""Names of images in registries: parsed as engines do, and rewritten to mirrors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

_HOST = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REFERENCE: Final = re.compile(
    rf"(?P<name>(?:{_HOST}/)?{_PART}(?:/{_PART})*)(?::(?P<tag>\w[\w.-]{{0,127}}))?(?:@(?P<digest>sha256:[0-9a-f]{{64}}))?",
    re.ASCII,
)
_MAX_CHARACTERS: Final = 512
_HUB: Final = "docker.io"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """An image of a registry: by tag, or, pinned, by digest."""

    #: With the registry's host, if one is named.
    name: str
    #: Empty when a digest is given.
    tag: str
    #: `sha256:…`, or empty.
    digest: str

    def __str__(self) -> str:
        return f"{self.name}@{self.digest}" if self.digest else f"{self.name}:{self.tag}"

    def pinned(self, digest: str) -> Reference:
        """Return the reference to what the tag means now."""
        return replace(self, tag="", digest=digest)


def parse_reference(uri: str) -> Reference:
    """Read an image's name. Without a tag it is `latest`; a tag beside a digest means nothing. Raises ValueError."""
    match = _REFERENCE.fullmatch(uri) if len(uri) <= _MAX_CHARACTERS else None
    if match is None:
        raise ValueError(f"{uri[:200]!r} is not the name of an image, such as registry.example/team/app:1")
    digest = match["digest"] or ""
    return Reference(name=match["name"], tag="" if digest else match["tag"] or "latest", digest=digest)


def mirrored(reference: Reference, prefixes: Mapping[str, str]) -> Reference:
    """Return where to pull the image from: the longest of `prefixes` that its name begins with is replaced.

    In a prefix, `*` stands for any characters but a slash. Names without a host are looked up as those of Docker Hub
    (`docker.io/library/python`), too.
    """
    for prefix in sorted(prefixes, key=len, reverse=True):
        pattern = re.compile(re.escape(prefix).replace(r"\*", "[^/]*"))
        for name in {reference.name: None, _with_hub(reference.name): None}:
            if match := pattern.match(name):
                return replace(reference, name=prefixes[prefix] + name[match.end() :])
    return reference


def _with_hub(name: str) -> str:
    host, slash, _ = name.partition("/")
    if slash and ("." in host or ":" in host or host == "localhost"):
        return name
    return f"{_HUB}/{name}" if slash else f"{_HUB}/library/{name}"
