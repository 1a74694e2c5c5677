"""Where a runtime stands in its conversation with us.

Rule: every change of a runtime's state is in this file's table. What isn't in it is refused, and changes nothing.

    INITIALIZING ──next──▶ READY ──event──▶ INVOKING ──response, error──▶ RESPONDED
         │                 ▲  └┐next                                          │
         └init error       └──next────────────────────────────────────────────┘
             ▼
           FAILED
"""

from __future__ import annotations

from enum import StrEnum


class RuntimeState(StrEnum):
    """Named as they appear in the answers to illegal requests."""

    #: The process runs its own and the function's initialisation.
    INITIALIZING = "Initializing"
    #: It has asked for the next event and got none yet.
    READY = "Ready"
    #: It has an event.
    INVOKING = "Invoking"
    #: It has answered and not asked for more.
    RESPONDED = "Responded"
    #: Its initialisation failed; it is expected to exit.
    FAILED = "Failed"


class RuntimeStep(StrEnum):
    """What can happen: all but EVENT are requests of the runtime."""

    NEXT = "next"
    EVENT = "event"
    RESPONSE = "response"
    ERROR = "error"
    INIT_ERROR = "init error"


TRANSITIONS: dict[tuple[RuntimeState, RuntimeStep], RuntimeState] = {
    (RuntimeState.INITIALIZING, RuntimeStep.NEXT): RuntimeState.READY,
    (RuntimeState.INITIALIZING, RuntimeStep.INIT_ERROR): RuntimeState.FAILED,
    # A runtime may lose its connection while it waits, and ask again.
    (RuntimeState.READY, RuntimeStep.NEXT): RuntimeState.READY,
    (RuntimeState.READY, RuntimeStep.EVENT): RuntimeState.INVOKING,
    (RuntimeState.INVOKING, RuntimeStep.RESPONSE): RuntimeState.RESPONDED,
    (RuntimeState.INVOKING, RuntimeStep.ERROR): RuntimeState.RESPONDED,
    (RuntimeState.RESPONDED, RuntimeStep.NEXT): RuntimeState.READY,
}


class IllegalStepError(Exception):
    """The runtime asked for what it can't have in its state."""

    def __init__(self, state: RuntimeState, step: RuntimeStep) -> None:
        super().__init__(f"Runtime is {state}: {step} is not allowed")
        self.state = state
        self.step = step


def next_state(state: RuntimeState, step: RuntimeStep) -> RuntimeState:
    """Return the state after `step`. Raises IllegalStepError."""
    try:
        return TRANSITIONS[state, step]
    except KeyError:
        raise IllegalStepError(state, step) from None
