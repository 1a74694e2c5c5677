"""Where a pushed image comes from: the local engine, by `docker save`, or an archive that it has written."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.errors import CliError, UsageError

_PIECE = 1 << 20
_INSPECT_TIMEOUT_S = 60
_ID = re.compile(r"(sha256:)?[0-9a-f]{12,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """An image to be pushed."""

    #: What it will be called, unless somebody says otherwise; None: what the archive says.
    name: str | None
    #: `sha256:…` of its configuration; empty when only the archive knows.
    image_id: str
    #: About what will be sent.
    size_bytes: int
    #: Yields the archive. Raises CliError when it can't be had whole.
    read: Callable[[], Iterator[bytes]]


def open_source(image: str) -> Source:
    """Return the archive file at `image`, or else the local engine's image of that name or id. Raises CliError."""
    path = Path(image)
    if image.endswith((".tar", ".tar.gz", ".tgz")) or path.is_file():
        return _from_file(path)
    known = _inspect(image)
    tags = [tag for tag in known.get("RepoTags") or () if isinstance(tag, str)]
    name = (tags[0] if tags else None) if _ID.fullmatch(image) else image
    image_id = str(known.get("Id", ""))
    return Source(
        name=repository_of(name) if name else None,
        image_id=image_id,
        size_bytes=int(known.get("Size") or 0),
        # By id: a name without a tag means all of its tags to `docker save`.
        read=lambda: _save(image_id),
    )


def repository_of(reference: str) -> str:
    """Return the name of an image without registry, tag and digest: `host:5000/team/app:1` is `team/app`."""
    name = reference.partition("@")[0]
    if ":" in name.rpartition("/")[2]:
        name = name.rpartition(":")[0]
    host, slash, rest = name.partition("/")
    return rest if slash and ("." in host or ":" in host or host == "localhost") else name


def _from_file(path: Path) -> Source:
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    if _is_gzip(path):
        raise UsageError(f"{path} is compressed; unpack it first: gunzip {path}")

    def read() -> Iterator[bytes]:
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                yield piece

    return Source(name=None, image_id="", size_bytes=path.stat().st_size, read=read)


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _inspect(image: str) -> dict[str, Any]:
    try:
        done = subprocess.run(
            ["docker", "image", "inspect", "--", image], capture_output=True, timeout=_INSPECT_TIMEOUT_S, check=False
        )
    except FileNotFoundError:
        raise CliError(
            "the docker command is not installed here. Where the image is, run: docker save IMAGE -o image.tar"
            "   and then here: lambdock push image.tar"
        ) from None
    except subprocess.TimeoutExpired:
        raise CliError(f"the Docker Engine did not answer within {_INSPECT_TIMEOUT_S} s") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        if "no such image" in said.lower():
            raise CliError(f"the local engine has no image {image}. 'docker images' lists what it has")
        raise CliError(said or f"docker image inspect ended with status {done.returncode}")
    found = json.loads(done.stdout)
    if not isinstance(found, list) or not found:
        raise CliError(f"the local engine has no image {image}. 'docker images' lists what it has")
    return dict(found[0])


def _save(image_id: str) -> Iterator[bytes]:
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(["docker", "save", image_id], stdout=subprocess.PIPE, stderr=complaints)
        try:
            assert process.stdout is not None
            with process.stdout as output:
                while piece := output.read(_PIECE):
                    yield piece
            if status := process.wait():
                complaints.seek(0)
                said = complaints.read().decode(errors="replace").strip()
                raise CliError(f"docker save failed with status {status}: {said}")
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
