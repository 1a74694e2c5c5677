"""Admission's directory of functions, in Redis."""

from __future__ import annotations

from contract.bus.operations import Operations
from controller.domain.function import FunctionHead


class RedisDirectory:
    """The FunctionDirectory that dispatch reads."""

    def __init__(self, operations: Operations, *, account_concurrency: int) -> None:
        self._operations = operations
        self._account_concurrency = account_concurrency

    async def publish(self, head: FunctionHead) -> None:
        """See FunctionDirectory. A head that was retired stays retired."""
        account = f"{head.account}:{head.region}"
        await self._operations.publish(
            head.uid, head.generation, head.reserved_concurrency, account, self._account_concurrency
        )

    async def retire(self, head: FunctionHead) -> None:
        """See FunctionDirectory."""
        await self._operations.retire_function(head.uid)

    async def retire_version(self, function_uid: str, version: str) -> None:
        """See FunctionDirectory."""
        await self._operations.retire_version(function_uid, f"{function_uid}:{version}")
