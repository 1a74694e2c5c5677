"""The life of an environment. Rule: every change of an environment's state is in this file.

           start            ready                 event
(new) ───▶ STARTING ──────▶ IDLE ───────────────▶ INVOKING
              │              ▲ │                     │ │
              │ failed       │ │ exited              │ │ answered ──▶ IDLE
              ▼              │ ▼                     │ │
            DEAD ◀── failed ─ RESTARTING ◀── broken ─┘ │
              ▲                │ at the gate           │
              │                ▼                       │
              │              GATED ── event ──▶ INVOKING (initialises again, within the invocation)
              └──── stop from any state ───────────────┘
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class State(StrEnum):
    """What an environment is doing."""

    #: Its sandbox is being made, or its runtime initialises for the first time.
    STARTING = "starting"
    #: The runtime waits for an event.
    IDLE = "idle"
    #: One invocation runs.
    INVOKING = "invoking"
    #: The runtime ended or was killed; its sandbox starts again, with the same `/tmp`.
    RESTARTING = "restarting"
    #: The sandbox waits at its gate: the next invocation contains the initialisation.
    GATED = "gated"
    #: Gone, or going: it never serves again.
    DEAD = "dead"


class Change(StrEnum):
    """What can happen to an environment."""

    READY = "ready"
    EVENT = "event"
    ANSWERED = "answered"
    #: The runtime is of no further use, as after a time-out, an exit, or a failed initialisation.
    BROKEN = "broken"
    AT_GATE = "at_gate"
    FAILED = "failed"
    STOP = "stop"


TRANSITIONS: Final[dict[tuple[State, Change], State]] = {
    (State.STARTING, Change.READY): State.IDLE,
    (State.STARTING, Change.BROKEN): State.RESTARTING,
    (State.STARTING, Change.FAILED): State.DEAD,
    (State.IDLE, Change.EVENT): State.INVOKING,
    (State.IDLE, Change.BROKEN): State.RESTARTING,
    (State.INVOKING, Change.ANSWERED): State.IDLE,
    (State.INVOKING, Change.BROKEN): State.RESTARTING,
    (State.RESTARTING, Change.AT_GATE): State.GATED,
    (State.RESTARTING, Change.FAILED): State.DEAD,
    (State.GATED, Change.EVENT): State.INVOKING,
    (State.GATED, Change.BROKEN): State.RESTARTING,
    **{(state, Change.STOP): State.DEAD for state in State},
}


class IllegalTransitionError(Exception):
    """A change that this state does not allow: a bug of ours. Nothing has been changed."""

    def __init__(self, environment_id: str, state: State, change: Change) -> None:
        super().__init__(f"environment {environment_id} is {state}, which {change} is not possible in")


def next_state(environment_id: str, state: State, change: Change) -> State:
    """Return the state after `change`. Raises IllegalTransitionError."""
    try:
        return TRANSITIONS[state, change]
    except KeyError:
        raise IllegalTransitionError(environment_id, state, change) from None
