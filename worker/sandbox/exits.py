"""How a sandbox's end becomes known: its process, watched directly, and the engine's events."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import struct
import threading
from collections.abc import Callable
from typing import Any

from worker.engine import DockerEngine

logger = logging.getLogger(__name__)

_PIDFD_GET_INFO = 0xC040FF0B
_PIDFD_INFO_EXIT = 8
_PIDFD_INFO = struct.Struct("=QQ11Ii")
_RETRY_S = 0.5


def exit_code(pidfd: int) -> int | None:
    """Return how a process that is no child of ours ended, as a shell reports it.

    None while it runs or has not been reaped yet, and on kernels before 6.15, which do not tell.
    """
    raw = bytearray(_PIDFD_INFO.size)
    _PIDFD_INFO.pack_into(raw, 0, _PIDFD_INFO_EXIT, *[0] * 13)
    try:
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, raw)
    except OSError:
        return None
    mask, *_, status = _PIDFD_INFO.unpack(raw)
    return shell_code(status) if mask & _PIDFD_INFO_EXIT else None


def shell_code(wait_status: int) -> int:
    """Turn a wait status into 0-255, 128 + n after signal n."""
    code = os.waitstatus_to_exitcode(wait_status)
    return code if code >= 0 else 128 - code


class EngineExits:
    """One subscription to the engine's events about this worker's containers, kept up across lost connections."""

    def __init__(
        self,
        engine: DockerEngine,
        labels: list[str],
        on_exit: Callable[[str, int], None],
        on_oom: Callable[[str], None],
        on_subscribed: Callable[[], None],
    ) -> None:
        """Report to the callbacks, on the loop: container id and exit code; container id; a (re)connection.

        Events during a lost connection are lost; `on_subscribed` tells when to ask about every container.
        """
        self._engine = engine
        self._labels = labels
        self._on_exit = on_exit
        self._on_oom = on_oom
        self._on_subscribed = on_subscribed
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing = threading.Event()
        self._stream: Any = None
        self._subscribed = asyncio.Event()

    async def ready(self, timeout_s: float) -> None:
        """Return once subscribed; the first call begins. Raises TimeoutError."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            threading.Thread(target=self._run, name="engine-events", daemon=True).start()
        async with asyncio.timeout(timeout_s):
            await self._subscribed.wait()

    def close(self) -> None:
        """End the subscription. Idempotent."""
        self._closing.set()
        if self._stream is not None:
            self._stream.close()

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self._stream = self._engine.client.api.events(
                    decode=True, filters={"type": "container", "event": ["die", "oom"], "label": self._labels}
                )
                self._tell(self._connected)
                for event in self._stream:
                    self._tell(self._on_event, event)
            except Exception:  # whatever the SDK raises, the next attempt is the answer
                if not self._closing.is_set():
                    logger.warning("the engine's event stream broke", exc_info=True)
            self._closing.wait(_RETRY_S)

    def _tell(self, fn: Callable[..., None], *args: Any) -> None:
        if self._closing.is_set() or self._loop is None or self._loop.is_closed():
            return
        self._loop.call_soon_threadsafe(fn, *args)

    def _connected(self) -> None:
        self._subscribed.set()
        self._on_subscribed()

    def _on_event(self, event: dict[str, Any]) -> None:
        container_id = event["Actor"]["ID"]
        if event["Action"] == "die":
            self._on_exit(container_id, int(event["Actor"]["Attributes"].get("exitCode", 255)))
        else:
            self._on_oom(container_id)
