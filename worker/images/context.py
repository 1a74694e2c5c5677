"""Gathers what an image is built from, and names the result by a hash of all of it."""

import hashlib
import io
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

#: Of no meaning to a build: what Python and editors leave beside the sources, and the input of the pinned list.
_LEFT_OUT = {"__pycache__", "requirements.in", "__init__.py"}
#: Where a Dockerfile finds the host's private certificate authorities.
EXTRA_CA = "extra-ca"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextFile:
    """One file as the builder sees it. Owner and time are left out: they would change from clone to clone."""

    path: str
    content: bytes
    executable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildContext:
    """Everything that decides what an image contains, save for the base's own age."""

    files: tuple[ContextFile, ...]
    #: Further inputs (build arguments, candidates for the base), of which the hash takes account.
    arguments: Mapping[str, str]

    def digest(self) -> str:
        """Return 16 hex digits that change with any file's path, content or mode, and with any argument."""
        sha = hashlib.sha256()
        for file in self.files:
            for part in (file.path.encode(), b"x" if file.executable else b"-", file.content):
                sha.update(b"%d:" % len(part) + part)
        for name, value in sorted(self.arguments.items()):
            sha.update(f"{len(name)}:{name}={len(value)}:{value}".encode())
        return sha.hexdigest()[:16]

    def tar(self) -> bytes:
        """Return the context as the engine takes it; equal contexts give equal bytes."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
            # Named in the Dockerfile, and empty on most machines.
            folder = tarfile.TarInfo(EXTRA_CA)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(folder)
            for file in self.files:
                info = tarfile.TarInfo(file.path)
                info.size, info.mode = len(file.content), 0o755 if file.executable else 0o644
                archive.addfile(info, io.BytesIO(file.content))
        return buffer.getvalue()


def gather(folders: Sequence[Path], authorities: Path, arguments: Mapping[str, str]) -> BuildContext:
    """Read a runtime's folders into one, and the host's private authorities (`*.crt`; that directory may be missing).

    No two folders may have a file of the same path.
    """
    files = [
        _read(path, path.relative_to(folder).as_posix())
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file() and not _LEFT_OUT & set(path.relative_to(folder).parts)
    ]
    files += [
        ContextFile(path=f"{EXTRA_CA}/{path.name}", content=path.read_bytes(), executable=False)
        for path in authorities.glob("*.crt")
        if path.is_file()
    ]
    return BuildContext(files=tuple(sorted(files, key=lambda file: file.path)), arguments=dict(arguments))


def _read(path: Path, name: str) -> ContextFile:
    return ContextFile(path=name, content=path.read_bytes(), executable=bool(path.stat().st_mode & 0o100))
