"""How much concurrency of an account may be reserved."""

from __future__ import annotations

from controller.domain import errors

#: What must stay for the functions without a reservation.
MINIMUM_UNRESERVED = 100


def check_reservation(*, wanted: int, reserved_by_others: int, account_limit: int) -> None:
    """Raise InvalidParameterValueError if the unreserved concurrency would fall below its minimum.

    0 is always allowed: it switches a function off and takes nothing from the others.
    """
    if wanted > 0 and account_limit - reserved_by_others - wanted < MINIMUM_UNRESERVED:
        raise errors.InvalidParameterValueError(errors.UNRESERVED_MINIMUM.format(minimum=MINIMUM_UNRESERVED))
