"""When a throttled event is tried again. Pure."""

from __future__ import annotations

from typing import Final

_FIRST_MS: Final = 1000
_LONGEST_MS: Final = 300_000


def throttle_delay_ms(attempt: int) -> int:
    """Return Lambda's back-off for throttles and system errors: 1 s, doubling, 5 minutes at most.

    https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html. `attempt` counts from 1.
    """
    doublings = min(max(attempt, 1) - 1, 30)
    return min(_FIRST_MS << doublings, _LONGEST_MS)
