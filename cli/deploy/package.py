"""A folder as a zip archive: the same folder always gives the same bytes."""

from __future__ import annotations

import glob
import io
import os
import posixpath
import stat
import zipfile
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from cli.deploy.manifest import MANIFEST_NAME
from cli.errors import UsageError

IGNORE_NAME = ".lambdockignore"
#: Never of use to a function.
ALWAYS_IGNORED = (".git", "__pycache__", ".venv", ".DS_Store", IGNORE_NAME, MANIFEST_NAME)
#: AWS's limit for an archive that is sent with the request.
MAX_ZIPPED_BYTES = 52_428_800

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


def build_package(directory: Path, *, without: Iterable[Path] = ()) -> bytes:
    """Return `directory` as a zip archive: names sorted, times fixed, modes 0644 or 0755.

    Links stay links where they lead to something else in the archive (`node_modules/.bin`, say); other links to files
    are stored as the files. Folders of `without` stay out if they lie in `directory`. Raises: `UsageError` when there
    is nothing to pack, something cannot be, or it is too large to be sent.
    """
    if not directory.is_dir():
        raise UsageError(f"{directory} is not a folder" if directory.exists() else f"there is no folder {directory}")
    patterns = (*ALWAYS_IGNORED, *read_ignore_patterns(directory), *_exactly(directory, without))
    buffer = io.BytesIO()
    count = 0
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name, path in _leaves(directory, patterns):
            target = _target_inside(directory, name, path, patterns)
            if target is None:
                archive.writestr(_file_entry(name, path), _content(path))
            else:
                archive.writestr(_entry(name, stat.S_IFLNK | 0o777), target)
            count += 1
    if count == 0:
        raise UsageError(f"{directory} holds no file to deploy (after {IGNORE_NAME} and the built-in exclusions)")
    packed = buffer.getvalue()
    if len(packed) > MAX_ZIPPED_BYTES:
        raise UsageError(
            f"{directory} packs to {len(packed) / 1e6:.1f} MB, and Lambda takes {MAX_ZIPPED_BYTES / 1e6:.1f} MB with a "
            f"request: name what is not needed in {IGNORE_NAME}, move libraries to layers, or make it a container image"
        )
    return packed


def _exactly(directory: Path, folders: Iterable[Path]) -> Iterator[str]:
    """Patterns that match these folders and nothing else."""
    root = directory.resolve()
    for folder in folders:
        inside = folder.resolve()
        if inside != root and inside.is_relative_to(root):
            yield "/" + glob.escape(inside.relative_to(root).as_posix())


def _leaves(directory: Path, patterns: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    """All files and links, links to folders included, by their names in the archive."""
    found: list[tuple[str, Path]] = []
    for parent, folders, names in os.walk(directory, onerror=_unreadable):
        here = Path(parent)
        base = here.relative_to(directory)
        kept = [folder for folder in folders if not is_ignored((base / folder).as_posix(), patterns)]
        links = [folder for folder in kept if (here / folder).is_symlink()]
        folders[:] = [folder for folder in kept if folder not in links]
        for name in (*names, *links):
            relative = (base / name).as_posix()
            if not is_ignored(relative, patterns):
                found.append((relative, here / name))
    return iter(sorted(found))


def _target_inside(directory: Path, name: str, path: Path, patterns: tuple[str, ...]) -> str | None:
    """Return where a link leads to when it can stay one, or None: it is a file, or a link to a file elsewhere."""
    if not path.is_symlink():
        return None
    target = os.readlink(path)
    # Never out and in again: the unpacked archive lies somewhere else.
    written = posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
    end = path.resolve()
    if not (os.path.isabs(target) or written.startswith("..")) and end.exists():
        root = directory.resolve()
        if end != root and end.is_relative_to(root):
            parts = end.relative_to(root).parts
            if not any(is_ignored("/".join(parts[:depth]), patterns) for depth in range(1, len(parts) + 1)):
                return target
    if path.is_dir():
        raise UsageError(
            f"{path} is a link to a folder that is not packed with it ({target}). "
            f"Copy the folder, or name it in {IGNORE_NAME}"
        )
    return None


def _unreadable(error: OSError) -> None:
    raise UsageError(f"{error.filename} cannot be read: {error.strerror}")


def _file_entry(name: str, path: Path) -> zipfile.ZipInfo:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(mode):
        raise UsageError(f"{path} is neither a file nor a folder; name it in {IGNORE_NAME}")
    # Readable by everyone: the function runs as another user than the one who packs.
    return _entry(name, stat.S_IFREG | (0o755 if mode & stat.S_IXUSR else 0o644))


def _entry(name: str, mode: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.create_system = 3
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = mode << 16
    return entry


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
