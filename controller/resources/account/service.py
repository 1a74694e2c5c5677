"""Tells an account's limits and usage."""

from __future__ import annotations

from dataclasses import dataclass

from controller.resources.account.ports import AccountUsage, UsageStore


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountSettings:
    """An account's usage in a region, and what bounds it."""

    usage: AccountUsage
    concurrency: int

    @property
    def unreserved_concurrency(self) -> int:
        """What functions without a reservation share."""
        return self.concurrency - self.usage.reserved_concurrency


class AccountService:
    """The operation on an account."""

    def __init__(self, *, usage: UsageStore, account_limit: int) -> None:
        self._usage = usage
        self._account_limit = account_limit

    async def get(self, account: str, region: str) -> AccountSettings:
        """Return limits and usage as of now."""
        return AccountSettings(usage=await self._usage.usage(account, region), concurrency=self._account_limit)
