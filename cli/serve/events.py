"""What a supervisor tells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class PartReady:
    """A part answers its probe, `took_s` after its process was started."""

    part: str
    took_s: float
    is_restart: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PartDied:
    """A part ended unasked. `deaths` counts those without a healthy time between them."""

    part: str
    #: As `subprocess` has it: negative for a signal.
    status: int
    deaths: int
    restart_in_s: float
    last_lines: tuple[str, ...]

    @property
    def is_crash_looping(self) -> bool:
        """True from the third death in a row."""
        return self.deaths >= 3


@dataclass(frozen=True, slots=True, kw_only=True)
class PartStuck:
    """A part did not become ready in its budget; its process is killed and started again."""

    part: str
    budget_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GaveUp:
    """A part could not be started, and never was: everything stops."""

    part: str
    deaths: int
    last_lines: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AllReady:
    """Every part is ready for the first time."""

    took_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopping:
    """The parts are being stopped, last started first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartStopped:
    """A part has ended as asked; `is_killed` when it had to be."""

    part: str
    took_s: float
    is_killed: bool


SupervisorEvent = PartReady | PartDied | PartStuck | GaveUp | AllReady | Stopping | PartStopped


class Listener(Protocol):
    """Hears of everything, on the supervisor's loop; must not block for long nor raise."""

    def event(self, event: SupervisorEvent) -> None:
        """Take notice of a change."""

    def line(self, part: str, line: bytes) -> None:
        """Take one line that a part has written."""


def status_text(status: int) -> str:
    """Return an exit status in words."""
    return f"killed by signal {-status}" if status < 0 else f"exit code {status}"
