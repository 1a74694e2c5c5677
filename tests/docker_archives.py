"""Archives as `docker save` writes them, and as it never would, made without an engine."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Member = tuple[str, bytes] | tarfile.TarInfo


def tar_of(members: Iterable[Member]) -> bytes:
    """Return a tar of files, given by name and contents, and of members without contents (links)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    return buffer.getvalue()


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    """Return a link as a member."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def layer(**files: str) -> bytes:
    """Return a layer of text files."""
    return tar_of((name, text.encode()) for name, text in files.items())


def config_of(layers: Sequence[bytes], **changes: Any) -> bytes:
    """Return an image's configuration."""
    diff_ids = [f"sha256:{sha256(one)}" for one in layers]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["/app"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    return json.dumps(config | changes).encode()


def classic_members(
    layers: Sequence[bytes], *, config: bytes | None = None, tags: Sequence[str] | None = ("app:latest",)
) -> list[Member]:
    """Return the members of an archive as engines up to 24 write it; a layer's second use is a symlink."""
    config = config_of(layers) if config is None else config
    members: list[Member] = [(f"{sha256(config)}.json", config)]
    names: list[str] = []
    first: dict[bytes, str] = {}
    for number, content in enumerate(layers):
        folder = hashlib.sha256(b"v1 id %d" % number + content).hexdigest()
        names.append(f"{folder}/layer.tar")
        members += [(f"{folder}/VERSION", b"1.0"), (f"{folder}/json", b"{}")]
        if content in first:
            members.append(link(names[-1], f"../{first[content]}"))
        else:
            first[content] = names[-1]
            members.append((names[-1], content))
    members.append(manifest_member([(f"{sha256(config)}.json", names, tags)]))
    return members


def oci_members(
    layers: Sequence[bytes],
    *,
    config: bytes | None = None,
    tags: Sequence[str] | None = ("app:latest",),
    is_compressed: bool = True,
) -> list[Member]:
    """Return the members of an archive as engines from 25 on write it."""
    config = config_of(layers) if config is None else config
    stored = [gzip.compress(one, mtime=0) for one in layers] if is_compressed else list(layers)
    blobs = {f"blobs/sha256/{sha256(blob)}": blob for blob in (config, *stored)}
    names = [f"blobs/sha256/{sha256(one)}" for one in stored]
    return [
        *blobs.items(),
        ("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'),
        ("index.json", b"{}"),
        manifest_member([(f"blobs/sha256/{sha256(config)}", names, tags)]),
    ]


def manifest_member(images: Iterable[tuple[str, Sequence[str], Sequence[str] | None]]) -> Member:
    """Return a manifest.json of images: configuration, layers, tags."""
    listed = [{"Config": config, "RepoTags": tags, "Layers": list(names)} for config, names, tags in images]
    return "manifest.json", json.dumps(listed).encode()


def replaced(members: Iterable[Member], changes: Mapping[str, bytes | None]) -> list[Member]:
    """Return the members with other contents for some; None leaves one out."""
    changed: list[Member] = []
    for member in members:
        name = member.name if isinstance(member, tarfile.TarInfo) else member[0]
        if name not in changes:
            changed.append(member)
        elif (content := changes[name]) is not None:
            changed.append((name, content))
    return changed


def sha256(data: bytes) -> str:
    """Return the hex digest."""
    return hashlib.sha256(data).hexdigest()
