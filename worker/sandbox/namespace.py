"""Runs a function inside another process's network namespace."""

from __future__ import annotations

import asyncio
import ctypes
import os
import select
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000
_LISTEN_BACKLOG = 128


class NamespaceError(Exception):
    """A network namespace could not be entered; `str()` says which, why, and what the worker lacks."""


class Process:
    """One process, held so that its number can't come to mean another one.

    Owns two descriptors: `pidfd` (readable once the process has ended) and its network namespace.
    """

    def __init__(self, pid: int, belongs: Callable[[str], bool]) -> None:
        """Take hold of `pid`. `belongs` judges the text of its `/proc/<pid>/cgroup`, against reuse of the number.

        Raises NamespaceError: it has ended, is not the one meant, or may not be looked at.
        """
        self.pid = pid
        try:
            self.pidfd = os.pidfd_open(pid)
        except OSError as error:
            raise NamespaceError(
                f"process {pid} can't be held: {error}. It has ended, or the worker lacks `pid: host`"
            ) from error
        self.namespace = -1
        try:
            is_meant = belongs(Path(f"/proc/{pid}/cgroup").read_text())
            self.namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            own = os.stat("/proc/self/ns/net")
            there = os.fstat(self.namespace)
        except OSError as error:
            self.close()
            raise NamespaceError(
                f"network namespace of process {pid} can't be opened: {error}. The worker needs the host's process "
                f"numbers (pid: host) and the capabilities SYS_ADMIN, SYS_PTRACE and NET_ADMIN"
            ) from error
        # The descriptors were opened by number: they are the process's only if it still lives afterwards.
        if not is_meant or self.has_ended() or (own.st_dev, own.st_ino) == (there.st_dev, there.st_ino):
            self.close()
            raise NamespaceError(f"process {pid} is not, or no longer, the first process of a sandbox")

    def has_ended(self) -> bool:
        """Tell whether the process has ended."""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(0))

    def close(self) -> None:
        """Let go of the process. Idempotent."""
        for name in ("pidfd", "namespace"):
            fd = getattr(self, name)
            if fd >= 0:
                setattr(self, name, -1)
                os.close(fd)


def is_over(pid: int) -> bool:
    """Tell whether no process of that number runs any more."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        return bool(poll.poll(0))
    finally:
        os.close(pidfd)


async def run_in(namespace: int, fn: Callable[[], T]) -> T:
    """Run the blocking `fn` in a thread that has entered the network namespace `namespace` (a descriptor).

    Programs that `fn` starts are inside as well. The thread serves this one call and ends, so that no thread of a
    pool can be left behind in a foreign namespace. Cancelling stops the waiting, not `fn`. Raises NamespaceError,
    and whatever `fn` raises.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def body() -> None:
        result: T | None = None
        failure: BaseException | None = None
        try:
            _enter(namespace)
            result = fn()
        except BaseException as error:  # noqa: BLE001 - carried to the waiting task
            failure = error
        loop.call_soon_threadsafe(settle, result, failure)

    # A duplicate: the owner may close its own while the thread is still on its way.
    namespace = os.dup(namespace)
    threading.Thread(target=body, name="namespace", daemon=True).start()
    return await done


def _enter(namespace: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        if libc.setns(namespace, _CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise NamespaceError(
                f"a sandbox's network namespace can't be entered: {os.strerror(number)}. The worker needs the "
                f"capability SYS_ADMIN"
            )
    finally:
        os.close(namespace)


def open_listener(address: str, port: int) -> socket.socket:
    """Return a non-blocking TCP socket that listens at `address:port` of the namespace of the calling thread."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setblocking(False)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(_LISTEN_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def open_udp(address: str, port: int) -> socket.socket:
    """Return a non-blocking UDP socket bound to `address:port` of the namespace of the calling thread."""
    bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        bound.setblocking(False)
        bound.bind((address, port))
    except BaseException:
        bound.close()
        raise
    return bound
