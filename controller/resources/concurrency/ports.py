"""What reserved concurrency needs from the outside."""

from __future__ import annotations

from typing import Protocol

from controller.domain.function import Function


class ReservationStore(Protocol):
    """The reservations of an account in a region, whose sum has a limit."""

    async def reserve(
        self, function_uid: str, wanted: int | None, *, account_limit: int, revision_id: str
    ) -> Function | None:
        """Set (None: remove) a function's reservation, and return the function; None when it is not there.

        Serialised per account and region: concurrent calls together never exceed what `check_reservation`
        allows. The head gets `revision_id`. Raises InvalidParameterValueError, having changed nothing.
        """
        ...
