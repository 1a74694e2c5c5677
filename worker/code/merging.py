"""Lays directory trees over each other, as layers are merged into `/opt`. Blocking; nothing but this writes there."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

#: A file can't have another name: too many already, another file system, or one that knows no such names.
_NO_LINK = {errno.EMLINK, errno.EXDEV, errno.EPERM, errno.ENOTSUP}


def merge_trees(sources: Iterable[Path], destination: Path) -> int:
    """Merge `sources` into `destination`, which is new; return the bytes of the files in it. Raises OSError.

    Later sources win, whatever kinds of entry meet: only two directories become one. Files are further names of the
    sources' own (nothing is copied), so that neither tree may be written to or have its modes changed; links are made
    anew. `destination` and what is in it is only ever entered by directories that were made here: a link in one source
    leads nobody who merges another one out of it.
    """
    destination.mkdir()
    destination.chmod(0o755)
    for source in sources:
        _lay_over(source, destination)
    return _file_bytes(destination)


def _lay_over(source: Path, destination: Path) -> None:
    pending = [(os.fspath(source), os.fspath(destination))]
    while pending:
        origin, target = pending.pop()
        with os.scandir(origin) as entries:
            for entry in entries:
                place = os.path.join(target, entry.name)
                if entry.is_dir(follow_symlinks=False):
                    _make_directory(place)
                    pending.append((entry.path, place))
                else:
                    _clear(place)
                    if entry.is_symlink():
                        os.symlink(os.readlink(entry.path), place)
                    else:
                        _share(entry.path, place)


def _make_directory(place: str) -> None:
    if os.path.islink(place) or not os.path.isdir(place):
        _clear(place)
        os.mkdir(place)
        Path(place).chmod(0o755)


def _clear(place: str) -> None:
    """Remove what an earlier source has there; a link itself, never what it points to."""
    if os.path.isdir(place) and not os.path.islink(place):
        shutil.rmtree(place)
    elif os.path.lexists(place):
        os.unlink(place)


def _share(origin: str, place: str) -> None:
    try:
        os.link(origin, place, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        shutil.copy2(origin, place, follow_symlinks=False)


def _file_bytes(directory: Path) -> int:
    size = 0
    for parent, _, names in os.walk(directory):
        for name in names:
            size += os.lstat(os.path.join(parent, name)).st_size
    return size
