"""One runtime's conversation, without the bytes: joins its state, the event on its way, and who waits for what."""

from __future__ import annotations

import asyncio
from typing import Protocol

from worker.runtime_api.state import IllegalStepError, RuntimeState, RuntimeStep, next_state
from worker.runtime_api.types import ReportedError, RuntimeEvent, RuntimeOutcome


class NextWaiter(Protocol):
    """A connection on which the runtime waits for its next event."""

    def deliver(self, event: RuntimeEvent) -> None:
        """Answer the waiting request. Called at most once; never after `Exchange.forget`."""
        ...

    def supersede(self) -> None:
        """The runtime has asked elsewhere: answer that this request gets nothing."""
        ...


class WrongRequestIdError(Exception):
    """The runtime answered an invocation that it does not have."""


class InvocationInProgressError(RuntimeError):
    """An environment gets one event at a time; the caller has not awaited the one before."""


class Exchange:
    """Takes events from the worker and requests from the runtime. Only the event loop's thread may use it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        #: Done when the runtime asks for its first event: initialisation is over.
        self.ready: asyncio.Future[None] = loop.create_future()
        #: Done when the runtime reports that initialisation failed.
        self.init_error: asyncio.Future[ReportedError] = loop.create_future()
        self.state = RuntimeState.INITIALIZING
        self._waiter: NextWaiter | None = None
        self._undelivered: RuntimeEvent | None = None
        self._request_id = ""
        self._outcome: asyncio.Future[RuntimeOutcome] | None = None

    def invoke(self, event: RuntimeEvent) -> asyncio.Future[RuntimeOutcome]:
        """Hand `event` to the runtime: at once if it waits, else as soon as it asks.

        The future stays pending when the runtime exits or hangs: whoever watches the sandbox cancels it. Raises
        InvocationInProgressError.
        """
        if self.state is RuntimeState.INVOKING or (self._outcome is not None and not self._outcome.done()):
            raise InvocationInProgressError(f"invocation {self._request_id} is still in progress")
        outcome: asyncio.Future[RuntimeOutcome] = self._loop.create_future()
        self._outcome = outcome
        self._undelivered = event
        self._deliver()
        return outcome

    @property
    def is_event_untaken(self) -> bool:
        """Whether the runtime has not asked for the event that it was to get."""
        return self._undelivered is not None

    def ask_next(self, waiter: NextWaiter) -> None:
        """The runtime asks for an event. Raises IllegalStepError."""
        self.state = next_state(self.state, RuntimeStep.NEXT)
        if not self.ready.done():
            self.ready.set_result(None)
        earlier, self._waiter = self._waiter, waiter
        if earlier is not None:
            earlier.supersede()
        self._deliver()

    def forget(self, waiter: NextWaiter) -> None:
        """The connection of `waiter` is gone: an event must not be written into it."""
        if self._waiter is waiter:
            self._waiter = None

    def check(self, step: RuntimeStep, request_id: str) -> None:
        """Raise what `finish` or `fail_init` would raise now, before the body is read."""
        if step is not RuntimeStep.INIT_ERROR and request_id != self._request_id and self._request_id:
            raise WrongRequestIdError
        try:
            next_state(self.state, step)
        except IllegalStepError:
            if step is not RuntimeStep.INIT_ERROR and self._request_id:
                # It had its answer: the id is a finished one.
                raise WrongRequestIdError from None
            raise

    def finish(self, step: RuntimeStep, request_id: str, outcome: RuntimeOutcome) -> None:
        """The runtime answers. Raises WrongRequestIdError or IllegalStepError, and changes nothing then."""
        self.check(step, request_id)
        self.state = next_state(self.state, step)
        if self._outcome is not None and not self._outcome.done():
            self._outcome.set_result(outcome)

    def fail_init(self, error: ReportedError) -> None:
        """The runtime reports that initialisation failed. Raises IllegalStepError."""
        self.state = next_state(self.state, RuntimeStep.INIT_ERROR)
        if not self.init_error.done():
            self.init_error.set_result(error)

    def close(self) -> None:
        """Cancel everything that anybody waits for. Idempotent."""
        self._waiter = self._undelivered = None
        for future in (self.ready, self.init_error, self._outcome):
            if future is not None:
                future.cancel()

    def _deliver(self) -> None:
        if self._waiter is None or self._undelivered is None:
            return
        waiter, event = self._waiter, self._undelivered
        self._waiter = self._undelivered = None
        if self._outcome is None or self._outcome.done():
            # Given up by the caller before the runtime asked; it waits for another.
            self._waiter = waiter
            return
        self.state = next_state(self.state, RuntimeStep.EVENT)
        self._request_id = event.request_id
        waiter.deliver(event)
