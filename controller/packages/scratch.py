"""Files that packages lie in on their way, and that nobody needs afterwards."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

#: Files older than this belong to a process that died: no package is on its way for so long.
STALE_S: Final = 3_600.0
#: Of their names: the directory may have others' files.
_PREFIX: Final = "lambdock-package-"


@contextmanager
def scratch_file(directory: Path) -> Iterator[Path]:
    """Name a file that does not exist yet, and remove it in the end, whoever made it."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    _sweep(directory)
    path = directory / f"{_PREFIX}{uuid.uuid4().hex}"
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _sweep(directory: Path) -> None:
    oldest = time.time() - STALE_S
    for path in directory.glob(f"{_PREFIX}*"):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < oldest:
                path.unlink()
