"""What a `docker save` archive must be to be accepted. Nothing is unpacked: members are found by where they lie.

Two forms are known: engines up to 24 write `<layer>/layer.tar` (twice the same: a symlink) and `<digest>.json`; those
from 25 on an OCI layout with `blobs/sha256/<digest>`, layers compressed or not. Both have a `manifest.json` that lists
images, which is all that is followed. Every digest that a name or the configuration claims is computed anew.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import orjson

from contract.images import ARCHITECTURES, MAX_LAYERS, ImageLayer, ImageManifest
from controller.images.tar import Member, TarError, TarScanner

#: Of an archive: four for each layer, and a few more.
MAX_MEMBERS: Final = 10_000
#: Files, links and directories in all layers of an image; each costs an inode.
MAX_ENTRIES: Final = 2_000_000
MAX_NAME_CHARACTERS: Final = 4_096
MAX_MANIFEST_BYTES: Final = 4 << 20
MAX_CONFIG_BYTES: Final = 8 << 20
_MANIFEST: Final = "manifest.json"
_MAX_HOPS: Final = 10
_PIECE: Final = 1 << 20
#: Of a layer; parallel compressors make one for every 64 KB or more.
MAX_GZIP_MEMBERS: Final = 1_000_000
#: Decompressed at a time: at the end of each gzip member the rest is copied.
_SLICE: Final = 1 << 14
_DIGEST: Final = re.compile(r"(?:^|/)([0-9a-f]{64})(?:\.json)?$")
_DIFF_ID: Final = re.compile(r"sha256:([0-9a-f]{64})")
_GZIP: Final = b"\x1f\x8b"
#: Beginnings of compressions that Python can't read, by what they are called.
_FOREIGN: Final = {b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}


class ArchiveError(ValueError):
    """The archive is refused; the text says what is wrong with it and, where that helps, what to do."""


class ImageTooLargeError(ArchiveError):
    """The image is larger than images may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """Where a member's contents lie in the archive."""

    offset: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedImage:
    """An image of an archive that is sound: what to store, and what it will be called."""

    manifest: ImageManifest
    #: Where each blob of the manifest lies.
    regions: Mapping[str, Region]
    #: References under which the archive has it.
    tags: tuple[str, ...]


class Index:
    """The members of an archive by name, gathered while it arrives. `add` raises ArchiveError for what is hostile."""

    def __init__(self) -> None:
        self._members: dict[str, Member] = {}

    def add(self, member: Member) -> None:
        """Note a member."""
        if member.kind == "directory":
            return
        name = _safe_name(member.name)
        if name in self._members:
            raise ArchiveError(f"the archive has two members named {_shown(name)}")
        if len(self._members) >= MAX_MEMBERS:
            raise ArchiveError(f"the archive has more than {MAX_MEMBERS} members; an image has a few for each layer")
        self._members[name] = member

    def find(self, name: str) -> Region | None:
        """Return where a file's contents lie, following links within the archive; None when there is none."""
        for _ in range(_MAX_HOPS):
            member = self._members.get(name)
            if member is None:
                return None
            if member.kind == "file":
                if member.unpacked_bytes != member.size_bytes:
                    raise ArchiveError(f"{_shown(name)} is a sparse file; archives of images have none")
                return Region(offset=member.offset, size_bytes=member.size_bytes)
            if member.kind == "symlink":
                if member.target.startswith("/"):
                    raise ArchiveError(f"the link {_shown(name)} -> {_shown(member.target)} leaves the archive")
                name = _safe_name(posixpath.normpath(posixpath.join(posixpath.dirname(name), member.target)))
            elif member.kind == "hardlink":
                name = _safe_name(member.target)
            else:
                raise ArchiveError(f"{_shown(name)} is neither a file nor a link")
        raise ArchiveError(f"links lead from {_shown(name)} in a circle")


def check_archive(
    file: BinaryIO, index: Index, *, wanted: str | None, limit_bytes: int, stop: threading.Event
) -> CheckedImage:
    """Return the archive's image, after reading all of it: `wanted` names one where there are several.

    Blocks for some seconds per GB: call it in a thread; it ends soon after `stop` is set. Raises ArchiveError.
    """
    entry = _choose(_images(file, index), wanted)
    config_region = _member(index, str(entry["Config"]))
    config_bytes = _read(file, config_region, MAX_CONFIG_BYTES, "the image's configuration")
    config_sha256 = hashlib.sha256(config_bytes).hexdigest()
    _check_digest(str(entry["Config"]), config_sha256, "configuration")
    config = _object(config_bytes, "the image's configuration")
    architecture = _architecture(config)
    diff_ids = _diff_ids(config)
    names = entry["Layers"]
    if len(names) != len(diff_ids):
        raise ArchiveError(f"the archive lists {len(names)} layers, and the image's configuration has {len(diff_ids)}")
    meter = _Meter(limit_bytes)
    regions: dict[str, Region] = {config_sha256: config_region}
    layers: list[ImageLayer] = []
    checked: dict[tuple[int, str], tuple[ImageLayer, _Counts]] = {}
    for name, diff_id in zip(names, diff_ids, strict=True):
        region = _member(index, name)
        if (region.offset, diff_id) in checked:
            # Engines unpack it once for each place that it has in the image.
            layer, counts = checked[region.offset, diff_id]
            meter.add(counts)
        else:
            before = meter.counts
            layer = _check_layer(_pieces(file, region, stop), name, diff_id, region.size_bytes, meter)
            checked[region.offset, diff_id] = layer, meter.counts.minus(before)
        regions[layer.blob] = region
        layers.append(layer)
    manifest = ImageManifest(
        config=config_sha256, layers=tuple(layers), architecture=architecture, total_bytes=meter.counts.unpacked_bytes
    )
    return CheckedImage(manifest=manifest, regions=regions, tags=tuple(entry["RepoTags"] or ()))


@dataclass(frozen=True, slots=True)
class _Counts:
    """What unpacking writes."""

    entries: int = 0
    #: Bytes of files, as the engine counts them.
    unpacked_bytes: int = 0
    #: What layers decompress to: all of it is read, also what belongs to no file.
    tar_bytes: int = 0

    def plus(self, other: _Counts) -> _Counts:
        return _Counts(
            self.entries + other.entries, self.unpacked_bytes + other.unpacked_bytes, self.tar_bytes + other.tar_bytes
        )

    def minus(self, other: _Counts) -> _Counts:
        return self.plus(_Counts(-other.entries, -other.unpacked_bytes, -other.tar_bytes))


class _Meter:
    """Counts what unpacking all layers writes."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self.counts = _Counts()

    def count(self, member: Member) -> None:
        self.add(_Counts(entries=1, unpacked_bytes=member.unpacked_bytes))

    def count_tar(self, size_bytes: int) -> None:
        self.add(_Counts(tar_bytes=size_bytes))

    def add(self, counts: _Counts) -> None:
        """Count more of it. Raises ImageTooLargeError."""
        self.counts = now = self.counts.plus(counts)
        if now.entries > MAX_ENTRIES:
            raise ImageTooLargeError(f"the image's layers have more than {MAX_ENTRIES} files, links and directories")
        if max(now.unpacked_bytes, now.tar_bytes) > self._limit_bytes:
            raise ImageTooLargeError(
                f"the image's layers have more than {self._limit_bytes} bytes unpacked. Make it smaller, or raise"
                " LAMBDOCK_IMAGE_LIMIT_MB of the controller and the workers"
            )


def _images(file: BinaryIO, index: Index) -> list[dict[str, Any]]:
    region = index.find(_MANIFEST)
    if region is None:
        raise ArchiveError(f"the archive has no {_MANIFEST}. Expected is what 'docker save IMAGE' writes, complete")
    images = _parsed(_read(file, region, MAX_MANIFEST_BYTES, _MANIFEST), _MANIFEST)
    if not isinstance(images, list) or not images or not all(_is_image(image) for image in images):
        raise ArchiveError(f"{_MANIFEST} does not list images in the form that 'docker save' writes")
    return images


def _is_image(image: object) -> bool:
    if not isinstance(image, dict) or not isinstance(image.get("Config"), str):
        return False
    tags, layers = image.setdefault("RepoTags", None), image.get("Layers")
    return (tags is None or _is_strings(tags)) and _is_strings(layers)


def _is_strings(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _choose(images: Sequence[dict[str, Any]], wanted: str | None) -> dict[str, Any]:
    if wanted is None and len(images) == 1:
        return images[0]
    known = [tag for image in images for tag in image["RepoTags"] or ()]
    shown = ", ".join(_shown(tag) for tag in known[:20]) or "no names"
    if wanted is None:
        raise ArchiveError(f"the archive has {len(images)} images: {shown}. Name one of them by 'image'")
    forms = (wanted, f"{wanted}:latest")
    found = [image for image in images if set(forms) & set(image["RepoTags"] or ())]
    if len(found) != 1:
        raise ArchiveError(f"the archive has no image {_shown(wanted)}; it has: {shown}")
    return found[0]


def _member(index: Index, name: str) -> Region:
    region = index.find(_safe_name(name))
    if region is None:
        raise ArchiveError(f"the archive lacks {_shown(name)}, which its {_MANIFEST} names; it may be incomplete")
    return region


def _architecture(config: Mapping[str, Any]) -> str:
    if (system := config.get("os") or "linux") != "linux":
        raise ArchiveError(f"the image is for {_shown(str(system))}; functions run on linux")
    word = str(config.get("architecture"))
    if word not in ARCHITECTURES:
        raise ArchiveError(f"the image is for architecture {_shown(word)}; functions run on amd64 and arm64")
    return ARCHITECTURES[word]


def _diff_ids(config: Mapping[str, Any]) -> list[str]:
    root = config.get("rootfs")
    raw = root.get("diff_ids") if isinstance(root, dict) else None
    found = [_DIFF_ID.fullmatch(item) for item in raw] if isinstance(raw, list) and _is_strings(raw) else []
    digests = [match[1] for match in found if match is not None]
    if not isinstance(raw, list) or not digests or len(digests) != len(raw):
        raise ArchiveError("the image's configuration does not list its layers (rootfs.diff_ids) by sha256")
    if len(digests) > MAX_LAYERS:
        raise ArchiveError(f"the image has {len(digests)} layers; an engine takes at most {MAX_LAYERS}")
    return digests


def _check_layer(pieces: Iterator[bytes], name: str, diff_id: str, size_bytes: int, meter: _Meter) -> ImageLayer:
    stored, plain = hashlib.sha256(), hashlib.sha256()
    scanner = TarScanner(meter.count)

    def take(piece: bytes) -> None:
        meter.count_tar(len(piece))
        plain.update(piece)
        scanner.feed(piece)

    first = next(pieces, b"")
    for magic, kind in _FOREIGN.items():
        if first.startswith(magic):
            raise ArchiveError(
                f"the layer {_shown(name)} is compressed by {kind}; only gzip is read. Save the image anew"
            )
    inflate = _Inflater(take) if first.startswith(_GZIP) else None
    try:
        piece = first
        while piece:
            stored.update(piece)
            if inflate is None:
                take(piece)
            else:
                inflate.feed(piece)
            piece = next(pieces, b"")
        if inflate is not None:
            inflate.close()
        if plain.hexdigest() != diff_id:
            raise ArchiveError(
                f"the layer {_shown(name)} has digest {plain.hexdigest()}, and the image's configuration says"
                f" {diff_id}: it has been damaged or changed"
            )
        scanner.close()
    except (TarError, zlib.error) as error:
        raise ArchiveError(f"the layer {_shown(name)} is damaged or incomplete: {error}") from error
    blob = stored.hexdigest()
    _check_digest(name, blob, "layer")
    return ImageLayer(blob=blob, diff_id=diff_id, size_bytes=size_bytes)


class _Inflater:
    """Decompresses gzip in pieces of bounded size: a kilobyte may hold a megabyte."""

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self._take = take
        self._member: Any = None
        self._members = 0

    def feed(self, piece: bytes) -> None:
        for begin in range(0, len(piece), _SLICE):
            self._feed(piece[begin : begin + _SLICE])

    def _feed(self, piece: bytes) -> None:
        while True:
            if self._member is None:
                if not piece:
                    return
                self._members += 1
                if self._members > MAX_GZIP_MEMBERS:
                    raise TarError(f"its compressed data has more than {MAX_GZIP_MEMBERS} parts")
                self._member = zlib.decompressobj(wbits=31)
            out = self._member.decompress(piece, _PIECE)
            self._take(out)
            piece = self._member.unconsumed_tail
            if self._member.eof:
                # Another member may follow, as parallel compressors write them.
                piece, self._member = self._member.unused_data, None
            elif not piece and len(out) < _PIECE:
                return

    def close(self) -> None:
        if self._member is not None:
            raise TarError("its compressed data ends early")


def _check_digest(name: str, actual: str, what: str) -> None:
    """Names of members that are digests must be true. (Older archives name layers by ids of another kind.)"""
    claimed = _DIGEST.search(name)
    if claimed is not None and claimed[1] != actual:
        raise ArchiveError(f"the {what} {_shown(name)} has digest {actual}: it has been damaged or changed")


def _pieces(file: BinaryIO, region: Region, stop: threading.Event) -> Iterator[bytes]:
    file.seek(region.offset)
    left = region.size_bytes
    while left and not stop.is_set():
        piece = file.read(min(_PIECE, left))
        if not piece:
            raise ArchiveError("the archive ends early")
        left -= len(piece)
        yield piece


def _read(file: BinaryIO, region: Region, limit_bytes: int, what: str) -> bytes:
    if region.size_bytes > limit_bytes:
        raise ArchiveError(f"{what} has {region.size_bytes} bytes; at most {limit_bytes} are read")
    file.seek(region.offset)
    return file.read(region.size_bytes)


def _parsed(raw: bytes, what: str) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise ArchiveError(f"{what} is not JSON: {error}") from error


def _object(raw: bytes, what: str) -> dict[str, Any]:
    value = _parsed(raw, what)
    if not isinstance(value, dict):
        raise ArchiveError(f"{what} is not a JSON object")
    return value


def _safe_name(name: str) -> str:
    """Normalise a member's name; raise for one that could mean something outside the archive."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\0" in name or len(name) > MAX_NAME_CHARACTERS or not parts:
        raise ArchiveError(f"the archive has the member name {_shown(name)}; names must be relative, without '..'")
    return "/".join(parts)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 100 else f"{text[:100]}…")
