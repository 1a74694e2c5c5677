"""A folder as a deployment package: the same folder always gives the same bytes."""

from __future__ import annotations

import io
import os
import stat
import zipfile
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from cli.deploy.manifest import MANIFEST_NAME
from cli.errors import UsageError

IGNORE_NAME = ".lambdockignore"
#: Never of use to a function.
ALWAYS_IGNORED = (".git", "__pycache__", ".venv", ".DS_Store", IGNORE_NAME, MANIFEST_NAME)

#: The earliest instant that a zip archive can hold.
_EPOCH = (1980, 1, 1, 0, 0, 0)


def read_ignore_patterns(directory: Path) -> tuple[str, ...]:
    """Return the patterns of `.lambdockignore`: one glob a line, `#` begins a comment, `/` at the end is optional.

    Raises: `UsageError` for a negated pattern, which is not supported.
    """
    path = directory / IGNORE_NAME
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    patterns = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    for pattern in patterns:
        if pattern.startswith("!"):
            raise UsageError(f"{path}: {pattern!r}: patterns that take back others are not supported; remove the line")
    return tuple(pattern.strip("/") if "/" not in pattern.rstrip("/") else pattern.rstrip("/") for pattern in patterns)


def is_ignored(path: str, patterns: tuple[str, ...]) -> bool:
    """Tell whether a path, relative and with `/`, stays out: a pattern with `/` is matched from the top of the folder,
    another one against the last name of the path. The caller does not descend into what is ignored.
    """
    name = path.rpartition("/")[2]
    return any(
        fnmatchcase(path, pattern.lstrip("/")) if "/" in pattern else fnmatchcase(name, pattern) for pattern in patterns
    )


def build_package(directory: Path) -> bytes:
    """Return `directory` as a zip archive: names sorted, times fixed, modes 0644 or 0755.

    Links to files are stored as the files. Raises: `UsageError` when there is nothing to pack or something cannot be.
    """
    if not directory.is_dir():
        raise UsageError(f"{directory} is not a folder" if directory.exists() else f"there is no folder {directory}")
    patterns = (*ALWAYS_IGNORED, *read_ignore_patterns(directory))
    buffer = io.BytesIO()
    count = 0
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name, path in _files(directory, patterns):
            archive.writestr(_entry(name, path), _content(path))
            count += 1
    if count == 0:
        raise UsageError(f"{directory} holds no file to deploy (after {IGNORE_NAME} and the built-in exclusions)")
    return buffer.getvalue()


def _files(directory: Path, patterns: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    found: list[tuple[str, Path]] = []
    for parent, folders, names in os.walk(directory, onerror=_unreadable):
        base = Path(parent).relative_to(directory)
        kept = [folder for folder in folders if not is_ignored((base / folder).as_posix(), patterns)]
        for folder in kept:
            if (Path(parent) / folder).is_symlink():
                raise UsageError(
                    f"{Path(parent) / folder} is a link to a folder; packages cannot hold one. "
                    f"Copy the folder, or name it in {IGNORE_NAME}"
                )
        folders[:] = kept
        for name in names:
            relative = (base / name).as_posix()
            if not is_ignored(relative, patterns):
                found.append((relative, Path(parent) / name))
    return iter(sorted(found))


def _unreadable(error: OSError) -> None:
    raise UsageError(f"{error.filename} cannot be read: {error.strerror}")


def _entry(name: str, path: Path) -> zipfile.ZipInfo:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(mode):
        raise UsageError(f"{path} is neither a file nor a folder; name it in {IGNORE_NAME}")
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.create_system = 3
    entry.compress_type = zipfile.ZIP_DEFLATED
    # Readable by everyone: the function runs as another user than the one who packs.
    entry.external_attr = (stat.S_IFREG | (0o755 if mode & stat.S_IXUSR else 0o644)) << 16
    return entry


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
