"""Loop devices: block devices whose content is a file."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import stat
from pathlib import Path

_LOOP_CTL_GET_FREE = 0x4C82
_LOOP_CONFIGURE = 0x4C0A
_LOOP_CLR_FD = 0x4C01
_LOOP_GET_STATUS64 = 0x4C05
_LO_FLAGS_AUTOCLEAR = 4
_LOOP_MAJOR = 7
_ATTEMPTS = 32


class _LoopInfo(ctypes.Structure):
    _fields_ = (
        ("lo_device", ctypes.c_uint64),
        ("lo_inode", ctypes.c_uint64),
        ("lo_rdevice", ctypes.c_uint64),
        ("lo_offset", ctypes.c_uint64),
        ("lo_sizelimit", ctypes.c_uint64),
        ("lo_number", ctypes.c_uint32),
        ("lo_encrypt_type", ctypes.c_uint32),
        ("lo_encrypt_key_size", ctypes.c_uint32),
        ("lo_flags", ctypes.c_uint32),
        ("lo_file_name", ctypes.c_uint8 * 64),
        ("lo_crypt_name", ctypes.c_uint8 * 64),
        ("lo_encrypt_key", ctypes.c_uint8 * 32),
        ("lo_init", ctypes.c_uint64 * 2),
    )


class _LoopConfig(ctypes.Structure):
    _fields_ = (
        ("fd", ctypes.c_uint32),
        ("block_size", ctypes.c_uint32),
        ("info", _LoopInfo),
        ("reserved", ctypes.c_uint64 * 8),
    )


def attach(file: Path) -> tuple[str, int]:
    """Make a loop device of `file`; return its path and a descriptor that keeps it.

    It goes by itself when the descriptor is closed and nobody has it mounted any more, also when the worker dies:
    a device can't be left behind. Blocking, microseconds. Raises OSError.
    """
    backing = os.open(file, os.O_RDWR | os.O_CLOEXEC)
    try:
        for _ in range(_ATTEMPTS):
            number = _next_free()
            device = f"/dev/loop{number}"
            fd = os.open(_node(device, number), os.O_RDWR | os.O_CLOEXEC)
            config = _LoopConfig(fd=backing, block_size=4096)
            config.info.lo_flags = _LO_FLAGS_AUTOCLEAR
            name = str(file).encode()[-63:]
            config.info.lo_file_name[: len(name)] = name
            try:
                fcntl.ioctl(fd, _LOOP_CONFIGURE, config)
            except OSError as error:
                os.close(fd)
                # Somebody else took the same free one.
                if error.errno != errno.EBUSY:
                    raise
            else:
                return device, fd
    finally:
        os.close(backing)
    raise OSError(errno.EBUSY, f"no free loop device after {_ATTEMPTS} attempts for {file}")


def find(file: Path) -> list[str]:
    """Return the loop devices made of `file`. Compared by inode: paths differ between mount namespaces."""
    meant = file.stat()
    found = []
    for entry in Path("/sys/block").glob("loop*"):
        if not (entry / "loop").is_dir():
            continue
        info = _LoopInfo()
        try:
            fd = os.open(f"/dev/{entry.name}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.ioctl(fd, _LOOP_GET_STATUS64, info)
        except OSError:
            continue
        finally:
            os.close(fd)
        # The kernel reports the device number in its "huge" encoding, which os.makedev's agrees with below 4096.
        if info.lo_inode == meant.st_ino and info.lo_device == meant.st_dev:
            found.append(f"/dev/{entry.name}")
    return found


def detach(device: str) -> None:
    """Free `device` now, or as soon as nobody has it mounted. No error for one that is free. Raises OSError."""
    fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, _LOOP_CLR_FD)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
    finally:
        os.close(fd)


def _next_free() -> int:
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        return fcntl.ioctl(control, _LOOP_CTL_GET_FREE)
    finally:
        os.close(control)


def _node(device: str, number: int) -> str:
    # A device made just now has no node yet in a container's own /dev.
    if not Path(device).exists():
        with contextlib.suppress(FileExistsError):
            os.mknod(device, 0o600 | stat.S_IFBLK, os.makedev(_LOOP_MAJOR, number))
    return device
