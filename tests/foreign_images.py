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

#: A file: contents, or contents and mode; or where a link points to.
File = bytes | tuple[bytes, int] | str


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


def archive(files: Mapping[str, File]) -> bytes:
    """Return a tar of the files, executable unless a mode is given.

    Anybody may write into its directories, so that it is not their modes that keep a function from it.
    """
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as made:
        parents = {str(parent) for name in files for parent in Path(name).parents} - {"."}
        for parent in sorted(parents):
            entry = tarfile.TarInfo(parent)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o777
            made.addfile(entry)
        for name, file in files.items():
            if isinstance(file, str):
                link = tarfile.TarInfo(name)
                link.type, link.linkname = tarfile.SYMTYPE, file
                made.addfile(link)
                continue
            data, mode = file if isinstance(file, tuple) else (file, 0o755)
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), mode
            made.addfile(entry, io.BytesIO(data))
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
