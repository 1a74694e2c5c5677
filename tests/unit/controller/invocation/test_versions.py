from __future__ import annotations

from controller.api.identity import Caller
from controller.domain.arn import FunctionIdentifier
from controller.domain.function import State
from controller.invocation.versions import VersionCache
from controller.resources.functions.resolver import ResolvedFunction
from tests.fakes.played_runtime import launch_spec

CALLER, OTHER = Caller(account="1" * 12, region="us-east-1"), Caller(account="2" * 12, region="us-east-1")
NAME = FunctionIdentifier(name="f")


class CountingResolver:
    """The database: what `f` is at the moment, and how often somebody asked."""

    def __init__(self) -> None:
        self.state = State.ACTIVE
        self.uid = "old"
        self.asked = 0

    async def resolve(self, account: str, region: str, name: FunctionIdentifier) -> ResolvedFunction:
        self.asked += 1
        launch = launch_spec(function_uid=self.uid, account=account)
        return ResolvedFunction(
            launch=launch,
            launch_json=launch.to_json(),
            function_arn=name.arn(account, region),
            executed_version="$LATEST",
            state=self.state,
        )


def cache() -> tuple[VersionCache, CountingResolver]:
    resolver = CountingResolver()
    return VersionCache(resolver), resolver  # type: ignore[arg-type]


async def test_what_is_active_is_read_once_for_each_caller_and_name() -> None:
    versions, resolver = cache()

    for _ in range(3):
        await versions.resolve(CALLER, NAME)
    assert resolver.asked == 1

    assert (await versions.resolve(OTHER, NAME)).launch.account == OTHER.account
    await versions.resolve(CALLER, FunctionIdentifier(name="f", qualifier="1"))
    assert resolver.asked == 3


async def test_what_is_not_active_is_read_every_time() -> None:
    versions, resolver = cache()
    resolver.state = State.PENDING

    assert (await versions.resolve(CALLER, NAME)).state is State.PENDING
    resolver.state = State.ACTIVE

    assert (await versions.resolve(CALLER, NAME)).state is State.ACTIVE


async def test_what_was_forgotten_is_read_again() -> None:
    versions, resolver = cache()
    await versions.resolve(CALLER, NAME)
    resolver.uid = "new"

    assert (await versions.resolve(CALLER, NAME)).launch.function_uid == "old"
    versions.forget(CALLER, NAME)
    assert (await versions.resolve(CALLER, NAME)).launch.function_uid == "new"


async def test_resolving_now_reads_what_is_there_and_remembers_that() -> None:
    versions, resolver = cache()
    await versions.resolve(CALLER, NAME)
    resolver.uid = "new"

    assert (await versions.resolve_now(CALLER, NAME)).launch.function_uid == "new"
    assert (await versions.resolve(CALLER, NAME)).launch.function_uid == "new"
    assert resolver.asked == 2
