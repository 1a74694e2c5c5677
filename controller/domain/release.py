"""What a version freezes and runs: its settings and its code, a deployment package or a container image."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

_DIGEST_MARK = "@sha256:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A deployment package in the blob store."""

    #: Hex digest, as the blob store addresses it.
    sha256: str
    size_bytes: int
    unzipped_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A container image: in a registry, or pushed to the installation."""

    #: As the caller wrote it.
    uri: str
    #: `name@sha256:digest`, which always means the same image; empty until a worker has looked the tag up.
    resolved_uri: str = ""
    #: Hex digest of the blob that describes a pushed image (`contract/images.py`); empty: a registry has the image.
    manifest_sha256: str = ""
    #: As the worker found it, unpacked; 0 until then.
    size_bytes: int = 0

    @property
    def is_pinned(self) -> bool:
        """Whether every worker, at any time, makes the same of it."""
        return bool(self.resolved_uri)

    @property
    def sha256(self) -> str:
        """The image's digest in hex; empty until it is known."""
        return (self.resolved_uri or self.uri).partition(_DIGEST_MARK)[2]


def is_by_digest(uri: str) -> bool:
    """Tell whether an image's URI names a digest, rather than a tag, which may mean another image tomorrow."""
    return _DIGEST_MARK in uri


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundImage:
    """What a worker found an image to be."""

    #: `name@sha256:digest`.
    uri: str
    size_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageConfig:
    """What replaces an image's own entry point, command and directory; empty: nothing."""

    entry_point: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    working_directory: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerUse:
    """One layer version as a release uses it. Its blob is named here: deleting the layer version breaks nobody."""

    #: With the version's number.
    arn: str
    #: Hex digest, as the blob store addresses it.
    sha256: str
    size_bytes: int
    unzipped_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings that a version freezes."""

    #: Empty for images, as is `handler`.
    runtime: str
    role: str
    handler: str
    description: str = ""
    timeout_s: int = 3
    memory_mb: int = 128
    #: None where the caller never named any, which Lambda's answers tell from an empty set.
    environment: Mapping[str, str] | None = None
    architecture: str = "x86_64"
    ephemeral_storage_mb: int = 512
    log_group: str = ""
    #: Members kept and returned as written, by wire name, and not enforced (docs list them).
    stored: Mapping[str, Any] = field(default_factory=dict)
    #: In the order in which they are merged into /opt: later ones win.
    layers: tuple[LayerUse, ...] = ()
    #: None where the caller named none, and for packages.
    image_config: ImageConfig | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Settings and code that run together."""

    settings: Settings
    code: Package | Image

    @property
    def blobs(self) -> frozenset[str]:
        """The digests of all blobs that are named here and that running it needs."""
        named = self.code.manifest_sha256 if isinstance(self.code, Image) else self.code.sha256
        return frozenset({named, *(layer.sha256 for layer in self.settings.layers)} - {""})

    @property
    def needs_pinning(self) -> bool:
        """Whether it is an image by a name that may mean another one tomorrow."""
        return isinstance(self.code, Image) and not self.code.is_pinned


def pinned(release: Release, found: FoundImage | None) -> Release:
    """Return the release with what its image was found to be. A pinned one, and a package, stay what they are.

    Raises ValueError when an image by tag is left without, or by what is no digest.
    """
    code = release.code
    if not isinstance(code, Image) or code.is_pinned:
        return release
    if found is None or not is_by_digest(found.uri):
        raise ValueError(f"the image {code.uri} was prepared without saying which digest it has: {found}")
    return replace(release, code=replace(code, resolved_uri=found.uri, size_bytes=found.size_bytes))


def unpinned(release: Release) -> Release:
    """Return the release as it was before its image was found; pushed images never had to be."""
    code = release.code
    if not isinstance(code, Image) or code.manifest_sha256:
        return release
    return replace(release, code=Image(uri=code.uri))


def fingerprint(release: Release) -> str:
    """Return a digest of everything that publishing a version would freeze."""
    settings = release.settings
    parts = {name: getattr(settings, name) for name in Settings.__slots__}
    # Fingerprints are stored: what did not exist when one was made must not change it.
    for name in ("layers", "image_config"):
        if not parts[name]:
            del parts[name]
    code = release.code
    identity = code.sha256 if isinstance(code, Package) else f"image:{code.sha256 or code.uri}"
    canonical = orjson.dumps([identity, parts], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(canonical).hexdigest()
