"""Sets, reads and removes reserved concurrency."""

from __future__ import annotations

from controller.domain import errors
from controller.domain.arn import FunctionIdentifier
from controller.domain.stamp import StampSource
from controller.resources.concurrency.ports import ReservationStore
from controller.resources.functions.heads import HeadPublisher
from controller.resources.functions.lookup import FunctionLookup


class ConcurrencyService:
    """The operations on a function's reservation, which all its versions share."""

    def __init__(
        self,
        *,
        reservations: ReservationStore,
        lookup: FunctionLookup,
        heads: HeadPublisher,
        stamps: StampSource,
        account_limit: int,
    ) -> None:
        self._reservations = reservations
        self._lookup = lookup
        self._heads = heads
        self._stamps = stamps
        self._account_limit = account_limit

    async def put(self, account: str, region: str, name: FunctionIdentifier, wanted: int) -> int:
        """Reserve concurrency; admission knows it on return. 0 switches the function off."""
        await self._set(account, region, name, wanted)
        return wanted

    async def get(self, account: str, region: str, name: FunctionIdentifier) -> int | None:
        """Return the reservation, None where there is none."""
        return (await self._lookup.find(account, region, name)).function.reserved_concurrency

    async def delete(self, account: str, region: str, name: FunctionIdentifier) -> None:
        """Give the reservation back; no error where there is none."""
        await self._set(account, region, name, None)

    async def _set(self, account: str, region: str, name: FunctionIdentifier, wanted: int | None) -> None:
        function = (await self._lookup.find(account, region, name)).function
        revision_id = self._stamps().revision_id
        changed = await self._reservations.reserve(
            function.uid, wanted, account_limit=self._account_limit, revision_id=revision_id
        )
        if changed is None:
            raise errors.function_not_found(name.arn(account, region))
        await self._heads.publish_current(function.uid)
