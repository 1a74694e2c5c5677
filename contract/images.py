"""Pushed images: container images that lie in the blob store instead of a registry, and the URIs that name them.

A pushed image is a configuration and its layers, each a blob, and a manifest that lists them: a blob too, whose digest
is in the URI. The host in that URI can be no registry's: `pushed.lambdock` has no port and a top-level domain that
nobody can register.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, Final

import orjson

from contract.blobs.digest import checked, digest_of

#: In place of a registry's host.
PUSHED_HOST: Final = "pushed.lambdock"
MAX_NAME_CHARACTERS: Final = 128
#: The engine's own limit for the layers of an image.
MAX_LAYERS: Final = 125
#: Lambda's words for architectures, by those of image configurations.
ARCHITECTURES: Final = {"amd64": "x86_64", "x86_64": "x86_64", "arm64": "arm64", "aarch64": "arm64"}

_VERSION: Final = 1
_PART: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME: Final = re.compile(rf"{_PART}(?:/{_PART})*")
_PUSHED: Final = re.compile(rf"{re.escape(PUSHED_HOST)}/(?P<name>[^@]+)@sha256:(?P<digest>[0-9a-f]{{64}})")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLayer:
    """One layer, as stored: a tar, or a gzip of one."""

    #: Hex sha256 of the blob.
    blob: str
    #: Hex sha256 of the uncompressed tar, which the configuration names: equal to `blob` unless it is compressed.
    diff_id: str
    #: Of the blob.
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageManifest:
    """What a pushed image consists of. Equal images, pushed in the same form, have equal manifests."""

    #: Hex sha256 of the configuration's blob. Engines call it the image's id.
    config: str
    #: From the lowest up. One blob may be several layers.
    layers: tuple[ImageLayer, ...]
    #: In Lambda's words: `x86_64` or `arm64`.
    architecture: str
    #: Of all layers, unpacked.
    total_bytes: int

    @property
    def blobs(self) -> frozenset[str]:
        """The digests of all blobs that the image needs, without the manifest's own."""
        return frozenset((self.config, *(layer.blob for layer in self.layers)))

    def to_json(self) -> bytes:
        """Encode as the manifest's blob: equal manifests give equal bytes."""
        return orjson.dumps({"version": _VERSION, **asdict(self)}, option=orjson.OPT_SORT_KEYS)

    @property
    def digest(self) -> str:
        """The digest of `to_json`: what URIs name."""
        return digest_of(self.to_json())

    @classmethod
    def from_json(cls, raw: bytes) -> ImageManifest:
        """Decode a manifest's blob. Raises ValueError for anything else, and for versions of later releases."""
        try:
            data: dict[str, Any] = orjson.loads(raw)
            if data["version"] != _VERSION:
                raise ValueError(f"its version is {data['version']!r}, and this release reads {_VERSION}")
            layers = tuple(
                ImageLayer(
                    blob=checked(layer["blob"]), diff_id=checked(layer["diff_id"]), size_bytes=int(layer["size_bytes"])
                )
                for layer in data["layers"]
            )
            return cls(
                config=checked(data["config"]),
                layers=layers,
                architecture=str(data["architecture"]),
                total_bytes=int(data["total_bytes"]),
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"not the manifest of a pushed image: {error!s}") from error


def pushed_uri(name: str, digest: str) -> str:
    """Return the ImageUri of a pushed image. Raises ValueError for what is no image name or no digest."""
    if not is_image_name(name):
        raise ValueError(f"not an image name: {name[:100]!r}")
    return f"{PUSHED_HOST}/{name}@sha256:{checked(digest)}"


def split_pushed_uri(uri: str) -> tuple[str, str] | None:
    """Return name and manifest digest of a pushed image's URI; None for every other."""
    match = _PUSHED.fullmatch(uri)
    if match is None or not is_image_name(match["name"]):
        return None
    return match["name"], match["digest"]


def parse_pushed_uri(uri: str) -> str | None:
    """Return the digest of the manifest that a pushed image's URI names; None for images of registries.

    Raises ValueError for a URI that begins like a pushed image's and is none: no registry must be asked for it.
    """
    if not names_pushed_host(uri):
        return None
    found = split_pushed_uri(uri)
    if found is None:
        raise ValueError(f"{uri[:200]!r} is not a pushed image's URI: expected {PUSHED_HOST}/name@sha256:digest")
    return found[1]


def names_pushed_host(uri: str) -> bool:
    """Whether the URI's host is the one of pushed images, in whatever spelling."""
    return uri.partition("/")[0].partition(":")[0].lower() == PUSHED_HOST


def is_image_name(name: str) -> bool:
    """Whether this may be the name of a pushed image: lower-case parts separated by slashes, as in registries."""
    return len(name) <= MAX_NAME_CHARACTERS and _NAME.fullmatch(name) is not None
