"""Starts the worker of this container under a name and a state directory that outlive the container.

Containers come and go and get new host names; what a killed worker left is found by the worker's name. So names belong
to the state volume: it has a folder for each worker, and a container takes the first one that nobody holds. Scaled
workers (`--scale worker=2`) share the volume, but neither name nor folder.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import sys
from pathlib import Path

#: Told to the health check, which runs in the same container.
ID_FILE = Path("/tmp/lambdock-worker-id")  # noqa: S108 - the container's own
_MOST = 64


def main() -> None:
    """Become the worker. Never returns; exits with a message when every folder is held."""
    volume = Path(os.environ["LAMBDOCK_STATE_DIR"])
    folder = take_folder(volume)
    if folder is None:
        sys.exit(f"lambdock worker: {_MOST} workers run on this state volume already; scale to fewer")
    name = name_of(folder)
    ID_FILE.write_text(name, encoding="utf-8")
    os.environ |= {"LAMBDOCK_STATE_DIR": str(folder), "LAMBDOCK_WORKER_ID": name}
    os.execv(sys.executable, [sys.executable, "-m", "worker"])  # noqa: S606 - there is no shell to want


def take_folder(volume: Path) -> Path | None:
    """Return the first folder that no process holds; this process holds it from now on, through exec, until its end."""
    for number in range(1, _MOST + 1):
        folder = volume / f"worker-{number}"
        folder.mkdir(parents=True, exist_ok=True)
        # A lock, which the kernel drops with its holder: after kill -9 too.
        descriptor = os.open(folder / "held.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        os.set_inheritable(descriptor, True)
        return folder
    return None


def name_of(folder: Path) -> str:
    """Return the name of the folder's worker; made once, different on every host of a cell."""
    file = folder / "name"
    if not file.exists():
        draft = folder / "name.new"
        draft.write_text(f"{folder.name}-{secrets.token_hex(4)}", encoding="utf-8")
        draft.replace(file)
    return file.read_text(encoding="utf-8")


if __name__ == "__main__":
    main()
