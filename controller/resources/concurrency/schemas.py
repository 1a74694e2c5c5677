"""The wire form of reserved concurrency."""

from __future__ import annotations

from typing import Any

from controller.api.wire import WireModel
from controller.domain.validation import check_members


class PutFunctionConcurrencyRequest(WireModel):
    """The body of PutFunctionConcurrency."""

    ReservedConcurrentExecutions: int | None = None

    def wanted(self) -> int:
        """Return the reservation asked for. Raises ValidationFailedError."""
        check_members(self.members(), required=("ReservedConcurrentExecutions",))
        return self.ReservedConcurrentExecutions or 0


def reservation(reserved: int | None) -> dict[str, Any]:
    """Return the answer, which is empty where nothing is reserved."""
    return {} if reserved is None else {"ReservedConcurrentExecutions": reserved}
