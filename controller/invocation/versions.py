"""Remembers what names resolve to, so that a warm invocation reads no database."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from controller.api.identity import Caller
from controller.domain.arn import FunctionIdentifier
from controller.domain.function import State
from controller.resources.functions.resolver import ResolvedFunction, Resolver

_LIMIT: Final = 10_000

Key = tuple[Caller, FunctionIdentifier]


class VersionCache:
    """Answers from memory what has been Active. Dispatch refuses an answer that is out of date; then `forget` it."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._known: OrderedDict[Key, ResolvedFunction] = OrderedDict()

    async def resolve(self, caller: Caller, name: FunctionIdentifier) -> ResolvedFunction:
        """Return the version that `name` means, maybe an outdated one. Raises ResourceNotFoundError."""
        key = (caller, name)
        known = self._known.get(key)
        if known is not None:
            return known
        resolved = await self._resolver.resolve(caller.account, caller.region, name)
        if resolved.state is State.ACTIVE:
            self._known[key] = resolved
            if len(self._known) > _LIMIT:
                self._known.popitem(last=False)
        return resolved

    async def resolve_now(self, caller: Caller, name: FunctionIdentifier) -> ResolvedFunction:
        """Return what `name` means now, from the database: for answers that no dispatch checks afterwards."""
        self.forget(caller, name)
        return await self.resolve(caller, name)

    def forget(self, caller: Caller, name: FunctionIdentifier) -> None:
        """Read the database at the next `resolve` of this name."""
        self._known.pop((caller, name), None)

    def clear(self) -> None:
        """Forget everything: admission has lost what it knew of deleted versions."""
        self._known.clear()
