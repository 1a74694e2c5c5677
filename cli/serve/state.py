"""The state directory: who uses it, which cell it holds, where sockets go."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cli.errors import CliError, UsageError

#: Bytes of a unix socket's path, the closing zero not counted.
MAX_SOCKET_PATH = 107

_CELL = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


@contextmanager
def exclusive(state_dir: Path) -> Iterator[None]:
    """Make the directory and hold it for this process. Raises: `CliError` naming who holds it already."""
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(state_dir / "serve.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CliError(
            f"the state directory {state_dir} cannot be used: {error.strerror}. Choose another with --state-dir."
        ) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise CliError(
                f"{state_dir} is in use by another `lambdock serve` (process {holder}). "
                "Stop that one, or choose another directory with --state-dir and another --listen."
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        # The lock goes with the descriptor; the file stays, or two could lock two files of one name.
        os.close(descriptor)


def cell_id(state_dir: Path, override: str | None) -> str:
    """Return the name of this installation on its engine: `override`, else the one kept in the directory.

    Generated at the first call for a directory, and then always the same. Raises: `UsageError` for a bad name.
    """
    path = state_dir / "cell"
    if override is not None:
        return _checked(override, "LAMBDOCK_CELL")
    with suppress(FileNotFoundError):
        return _checked(path.read_text(encoding="ascii", errors="replace").strip(), str(path))
    made = f"cell-{secrets.token_hex(4)}"
    draft = path.with_name("cell.new")
    draft.write_text(made + "\n", encoding="ascii")
    draft.replace(path)
    return made


def socket_path(state_dir: Path, runtime_dir: Path) -> Path:
    """Return where the private Redis listens: in the state directory, or where the path is short enough.

    Raises: `CliError` when the short directory exists and is not ours alone.
    """
    preferred = state_dir / "redis" / "redis.sock"
    if len(os.fsencode(preferred)) <= MAX_SOCKET_PATH:
        return preferred
    digest = hashlib.sha256(os.fsencode(state_dir)).hexdigest()[:12]
    short = runtime_dir / f"lambdock-{os.geteuid()}-{digest}"
    with suppress(FileExistsError):
        short.mkdir(mode=0o700)
    found = short.lstat()
    if short.is_symlink() or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise CliError(
            f"{short} must be a directory of ours that nobody else may enter; remove it, or set XDG_RUNTIME_DIR"
        )
    return short / "redis.sock"


def _checked(name: str, source: str) -> str:
    if not _CELL.fullmatch(name):
        raise UsageError(
            f"{source} holds {name!r}; a cell's name has 1 to 32 lower-case letters, digits and hyphens, "
            "and does not begin with a hyphen"
        )
    return name
