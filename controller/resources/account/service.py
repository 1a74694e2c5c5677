"""Tells an account's limits and usage."""

from __future__ import annotations

from dataclasses import dataclass, replace

from controller.resources.account.ports import AccountUsage, LayerUsage, UsageStore


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

    def __init__(self, *, usage: UsageStore, layers: LayerUsage, account_limit: int) -> None:
        self._usage = usage
        self._layers = layers
        self._account_limit = account_limit

    async def get(self, account: str, region: str) -> AccountSettings:
        """Return limits and usage as of now."""
        usage = await self._usage.usage(account, region)
        layer_bytes = await self._layers.stored_bytes(account, region)
        return AccountSettings(
            usage=replace(usage, code_bytes=usage.code_bytes + layer_bytes), concurrency=self._account_limit
        )
