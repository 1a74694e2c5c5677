"""A sandbox's `/tmp`: a sparse file with a file system of the size asked for, on a loop device.

The engine mounts it, so that no mount has to propagate from the worker. It is no memory: a function with 128 MB has
512 MB of it, and the kernel answers ENOSPC at the end.
"""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from worker.sandbox import loop_device
from worker.sandbox.identity import GROUP_ID, USER_ID

MIB = 1024 * 1024
_BYTES_PER_INODE = 16_384
_INODE_BYTES = 256
#: Superblocks, bitmaps and group descriptors of the largest size (10,240 MB).
_FIXED_MB = 24
_TIMEOUT_S = 60


class TmpDiskError(Exception):
    """A disk for `/tmp` could not be made; `str()` says which step failed, and how."""


@dataclass(slots=True)
class TmpDisk:
    """One sandbox's disk. `attach` before the container is made, `remove` after it is gone."""

    file: Path
    _fd: int = field(default=-1, init=False)

    def attach(self) -> str:
        """Return the path of a loop device of the disk. Blocking, below 1 ms. Raises TmpDiskError."""
        try:
            device, self._fd = loop_device.attach(self.file)
        except OSError as error:
            raise TmpDiskError(
                f"no loop device for {self.file}: {error}. The worker needs /dev with /dev/loop-control, the device "
                f"rules 'b 7:* rwm' and 'c 10:237 rwm', and the capability SYS_ADMIN"
            ) from error
        return device

    def remove(self) -> None:
        """Let go of the device and delete the file. Idempotent; blocking. Raises OSError when deletion fails."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)
        self.file.unlink(missing_ok=True)


def file_size_mb(size_mb: int) -> int:
    """Return how large the file must be for `size_mb` to be usable."""
    return size_mb + _FIXED_MB + size_mb * _INODE_BYTES // _BYTES_PER_INODE


class TmpDisks:
    """Makes disks: formats one template per size, and copies it."""

    def __init__(self, folder: Path, templates: Path) -> None:
        """Keep disks in `folder` and templates in `templates`; both are made when missing."""
        self._folder = folder
        self._templates = templates

    def create(self, name: str, size_mb: int) -> TmpDisk:
        """Make an empty disk. Blocking, about 1 ms once the template exists. Raises TmpDiskError."""
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._folder / f"{name}.ext4"
        template = self._template(size_mb)
        try:
            copy_sparse(template, file)
        except OSError as error:
            file.unlink(missing_ok=True)
            raise TmpDiskError(f"copying {template} to {file} failed: {error}") from error
        return TmpDisk(file)

    def _template(self, size_mb: int) -> Path:
        template = self._templates / f"template-{size_mb}.ext4"
        if template.exists():
            return template
        self._templates.mkdir(parents=True, exist_ok=True)
        # Several workers may share the directory: each makes its own and the last one stays.
        draft = self._templates / f"{template.name}.{uuid.uuid4().hex}"
        try:
            with draft.open("wb") as made:
                made.truncate(file_size_mb(size_mb) * MIB)
            _run("mkfs.ext4", "-q", "-F", "-b", "4096", "-i", str(_BYTES_PER_INODE), "-I", str(_INODE_BYTES), "-m", "0",
                 "-O", "^has_journal,^resize_inode", "-E",
                 f"lazy_itable_init=1,nodiscard,root_owner={USER_ID}:{GROUP_ID}", str(draft))  # fmt: skip
            _run("debugfs", "-w", "-f", "-", str(draft), text="rmdir lost+found\nset_inode_field <2> mode 041777\n")
            draft.rename(template)
        finally:
            draft.unlink(missing_ok=True)
        return template


def copy_sparse(source: Path, target: Path) -> None:
    """Copy a file without its holes. Blocking. Raises OSError, FileExistsError for an existing target included."""
    read = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    write = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(read).st_size
        os.truncate(write, size)
        position = 0
        while position < size:
            try:
                start = os.lseek(read, position, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    break
                raise
            position = os.lseek(read, start, os.SEEK_HOLE)
            os.lseek(read, start, os.SEEK_SET)
            os.lseek(write, start, os.SEEK_SET)
            left = position - start
            while left > 0:
                left -= os.sendfile(write, read, None, left)
    finally:
        os.close(read)
        os.close(write)


def remove_leftovers(folder: Path) -> None:
    """Delete the disks of a dead worker in `folder`, with their devices. Blocking; what is in use stays."""
    for file in folder.glob("*.ext4"):
        with contextlib.suppress(OSError):
            for device in loop_device.find(file):
                loop_device.detach(device)
            file.unlink()


def _run(*command: str, text: str = "") -> None:
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TmpDiskError(f"{command[0]} did not run: {error}. The package e2fsprogs provides it") from error
    if done.returncode != 0:
        raise TmpDiskError(f"{command[0]} ended with {done.returncode}: {done.stderr.strip()}")
