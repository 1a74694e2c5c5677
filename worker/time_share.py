"""Holds one sandbox to a share of the worker's time, whatever it sends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

#: Of the worker's time, one sandbox may take so much in a row, and this share of it for ever.
BURST_S = 0.05
SHARE = 0.25
#: What passing on a piece of what a sandbox sends or gets costs, and each of its bytes; generously.
_PIECE_COST_S = 0.000_03
_BYTE_COST_S = 0.5e-9


def piece_cost_s(size_bytes: int) -> float:
    """Return what passing on one piece costs the worker, beside what it takes to understand it."""
    return _PIECE_COST_S + size_bytes * _BYTE_COST_S


class TimeShare:
    """An account of time: it fills by `share` as time goes by, up to `burst_s`, and is emptied by `charge`.

    While it is overdrawn, `is_held` is true: whoever spends the time should wait until `on_change` tells otherwise.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_change: Callable[[], None],
        *,
        burst_s: float = BURST_S,
        share: float = SHARE,
    ) -> None:
        """`on_change` is called after each change of `is_held`, in `loop`."""
        self.is_held = False
        self._loop = loop
        self._on_change = on_change
        self._burst_s = burst_s
        self._share = share
        self._credit_s = burst_s
        self._credited_at_s = loop.time()
        self._timer: asyncio.TimerHandle | None = None

    def charge(self, spent_s: float) -> None:
        """Take note of time spent; when that was too much, hold until it is made up for."""
        now = self._loop.time()
        earned_s = (now - self._credited_at_s) * self._share
        self._credited_at_s = now
        self._credit_s = min(self._burst_s, self._credit_s + earned_s) - spent_s
        if self._credit_s < 0 and not self.is_held:
            self.is_held = True
            self._timer = self._loop.call_later(-self._credit_s / self._share, self._go_on)
            self._on_change()

    def close(self) -> None:
        """Change nothing any more. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()

    def _go_on(self) -> None:
        self.is_held = False
        self._on_change()
