"""Resolves a name to what an invocation needs, with the reads of one small transaction each."""

from __future__ import annotations

from dataclasses import dataclass

from contract.launch import LaunchSpec
from controller.domain import errors
from controller.domain.arn import LATEST, FunctionIdentifier
from controller.domain.function import State, launch_of
from controller.resources.functions.lookup import FunctionLookup


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedFunction:
    """One version, ready to be dispatched if `state` is Active."""

    launch: LaunchSpec
    #: `launch.to_json()`, encoded once for all dispatches.
    launch_json: bytes
    #: The invoked function's ARN, qualified when the caller named a qualifier.
    function_arn: str
    #: `$LATEST` or a version number.
    executed_version: str
    state: State

    def check_invocable(self) -> None:
        """Raise ResourceConflictError unless the version is Active."""
        if self.state is not State.ACTIVE:
            raise errors.wrong_state(self.state)


class Resolver:
    """Reads the database at every call; whoever is in a hurry keeps the answers."""

    def __init__(self, lookup: FunctionLookup) -> None:
        self._lookup = lookup

    async def resolve(self, account: str, region: str, name: FunctionIdentifier) -> ResolvedFunction:
        """Return what invocations of `name` run now: while an update is under way, still the old release.

        Raises ResourceNotFoundError. A version that is not Active is returned, and says so.
        """
        found = await self._lookup.find(account, region, name)
        is_latest = found.version.version == LATEST
        launch = launch_of(found.function, None if is_latest else found.version)
        return ResolvedFunction(
            launch=launch,
            launch_json=launch.to_json(),
            function_arn=found.arn,
            executed_version=found.version.version,
            state=found.version.state,
        )
