"""Who accepting and dispatching events deals with, played."""

from __future__ import annotations

from typing import Any

from contract.bus.operations import ClaimedEvent, Dispatch, InvocationRequest, Verdict
from controller.api.identity import Caller
from controller.domain.arn import FunctionIdentifier
from controller.domain.function import State
from controller.resources.functions.resolver import ResolvedFunction
from tests.fakes.played_runtime import launch_spec
from tests.fakes.recording_operations import RecordingBus

CALLER = Caller(account="000000000000", region="us-east-1")
NAME = FunctionIdentifier(name="f", qualifier="live")


def resolved(state: State = State.ACTIVE, uid: str = "uid") -> ResolvedFunction:
    launch = launch_spec(function_uid=uid)
    return ResolvedFunction(
        launch=launch, launch_json=launch.to_json(), function_arn="arn:f", executed_version="$LATEST", state=state
    )


class FakeVersions:
    def __init__(self) -> None:
        self.answer: ResolvedFunction | Exception = resolved()
        #: What is remembered, though it is out of date.
        self.remembered: ResolvedFunction | None = None
        self.asked: list[tuple[Caller, FunctionIdentifier]] = []

    async def resolve(self, caller: Caller, name: FunctionIdentifier) -> ResolvedFunction:
        if self.remembered is not None:
            return self.remembered
        return await self.resolve_now(caller, name)

    async def resolve_now(self, caller: Caller, name: FunctionIdentifier) -> ResolvedFunction:
        self.remembered = None
        self.asked.append((caller, name))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class FakeReplies:
    controller = "c1"


class FakeDispatcher:
    """Answers with `verdicts` one after the other, the last one for ever."""

    def __init__(self, *verdicts: Verdict | Exception) -> None:
        self.versions = FakeVersions()
        self.replies = FakeReplies()
        self.verdicts = list(verdicts)
        self.requests: list[InvocationRequest] = []

    async def dispatch(self, _caller: Any, _name: Any, _resolved: Any, request: InvocationRequest) -> Dispatch:
        self.requests.append(request)
        verdict = self.verdicts.pop(0) if len(self.verdicts) > 1 else self.verdicts[0]
        if isinstance(verdict, Exception):
            raise verdict
        return Dispatch(verdict=verdict)


class EventOperations:
    """The queue's side: hands out `claims` once, and remembers what became of them."""

    def __init__(self) -> None:
        self.bus = RecordingBus()
        self.claims: list[list[ClaimedEvent] | Exception] = []
        self.dropped: list[str] = []
        self.deferred: list[tuple[str, int]] = []
        self.log: list[str] = []
        self.failure: Exception | None = None

    async def enqueue(self, event: str, uid: str, header: bytes, payload: bytes, blob: str) -> bool:
        self.log.append(f"enqueue {event} {uid} {len(payload)} {bool(blob)}")
        if self.failure is not None:
            raise self.failure
        self.header = header
        return True

    async def claim(self, controller: str, limit: int) -> list[ClaimedEvent]:
        assert (controller, limit > 0) == ("c1", True)
        if not self.claims:
            return []
        claims = self.claims.pop(0)
        if isinstance(claims, Exception):
            raise claims
        return claims

    async def drop(self, event: str, controller: str) -> bool:
        assert controller == "c1"
        self.dropped.append(event)
        return True

    async def defer(self, event: str, controller: str, delay_ms: int) -> bool:
        assert controller == "c1"
        self.deferred.append((event, delay_ms))
        return True
