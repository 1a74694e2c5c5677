"""Makes small container images for tests, without a registry, and removes them again."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

#: A file: contents, or contents and mode.
File = bytes | tuple[bytes, int]


def static_busybox() -> bytes:
    """Return a program that needs nothing but a kernel."""
    found = shutil.which("busybox")
    said = ""
    if found is not None:
        said = subprocess.run(
            [found, "echo", "static"], env={"LD_TRACE_LOADED_OBJECTS": "1"}, capture_output=True, text=True, check=False
        ).stdout
    if found is None or said.strip() != "static":
        raise RuntimeError("no statically linked busybox here; install it: bash deploy/ensure-engine.sh busybox")
    return Path(found).read_bytes()


def archive(files: Mapping[str, File], links: Mapping[str, str] | None = None) -> bytes:
    """Return a tar of the files, executable unless a mode is given, and of symbolic links."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as made:
        parents = {str(parent) for name in (*files, *(links or {})) for parent in Path(name).parents} - {"."}
        for parent in sorted(parents):
            entry = tarfile.TarInfo(parent)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            made.addfile(entry)
        for name, file in files.items():
            data, mode = file if isinstance(file, tuple) else (file, 0o755)
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), mode
            made.addfile(entry, io.BytesIO(data))
        for name, target in (links or {}).items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            made.addfile(entry)
    return stream.getvalue()


@contextmanager
def scratch_image(client: Any, files: Mapping[str, File], changes: Sequence[str] = ()) -> Iterator[str]:
    """Make an image of these files alone, with a Dockerfile's instructions; give its name."""
    name = f"lambdock-test-{uuid.uuid4().hex}:scratch"
    repository, _, tag = name.partition(":")
    client.api.import_image_from_data(archive(files), repository=repository, tag=tag, changes=list(changes))
    try:
        yield name
    finally:
        client.api.remove_image(name, force=True)


@contextmanager
def built_image(client: Any, dockerfile: str, files: Mapping[str, File] | None = None) -> Iterator[str]:
    """Build an image; give its name."""
    name = f"lambdock-test-{uuid.uuid4().hex}:built"
    context = archive({"Dockerfile": dockerfile.encode(), **(files or {})})
    said = list(
        client.api.build(fileobj=io.BytesIO(context), custom_context=True, tag=name, rm=True, forcerm=True, decode=True)
    )
    if errors := [line["error"] for line in said if "error" in line]:
        raise RuntimeError(f"the image was not built: {errors}")
    try:
        yield name
    finally:
        client.api.remove_image(name, force=True)
