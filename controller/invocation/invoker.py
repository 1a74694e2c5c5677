"""Dispatches an invocation and waits for its result."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final, NoReturn

from contract.bus.connection import RedisUnavailableError
from contract.bus.operations import Dispatch, InvocationRequest, Operations, Verdict
from contract.messages import INLINE_LIMIT_BYTES, InvokeHeader, ReplyHeader
from controller.api.identity import Caller
from controller.domain.arn import FunctionIdentifier
from controller.domain.errors import PlatformError, TooManyRequestsError
from controller.invocation.payload import InvokeParameters
from controller.invocation.replies import Replies
from controller.invocation.versions import VersionCache
from controller.resources.functions.heads import HeadPublisher
from controller.resources.functions.resolver import ResolvedFunction
from controller.transfer.exchange import Exchange

#: How long a caller waits for a cell that has no worker, or reconciles, before it is told.
PATIENCE_S: Final = 8.0
_PAUSE_S: Final = 0.05
#: What a cold start may take beyond the function's time-out: a queue of starts, and 10 s of initialisation.
START_ALLOWANCE_S: Final = 90.0
_RETRY_AFTER_S: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class InvokeResult:
    """What Invoke answers."""

    payload: bytes
    header: ReplyHeader


class Dispatcher:
    """Gives invocations to workers, with as many tries as it takes to be right about what to run."""

    def __init__(self, operations: Operations, versions: VersionCache, heads: HeadPublisher, replies: Replies) -> None:
        self.operations = operations
        self.versions = versions
        self.replies = replies
        self._heads = heads

    async def dispatch(
        self, caller: Caller, name: FunctionIdentifier, resolved: ResolvedFunction, request: InvocationRequest
    ) -> Dispatch:
        """Try once. On `UNKNOWN` and `STALE`, what the caller resolved has been forgotten; resolve and try again."""
        answer = await self.operations.dispatch(request, last_reply=self.replies.last_read)
        if answer.verdict in {Verdict.STALE, Verdict.UNKNOWN}:
            self.versions.forget(caller, name)
        if answer.verdict is Verdict.UNKNOWN:
            await self._heads.publish_current(resolved.launch.function_uid)
        return answer


class Invoker:
    """Runs synchronous invocations."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        exchange: Exchange,
        *,
        patience_s: float = PATIENCE_S,
        start_allowance_s: float = START_ALLOWANCE_S,
    ) -> None:
        self._dispatcher = dispatcher
        self._exchange = exchange
        self._patience_s = patience_s
        self._start_allowance_s = start_allowance_s

    async def invoke(
        self, caller: Caller, name: FunctionIdentifier, request_id: str, parameters: InvokeParameters, payload: bytes
    ) -> InvokeResult:
        """Run one invocation and return its result, a failure of the function included.

        Raises LambdaError when it is refused (throttled, unknown, not Active), PlatformError when we fail.
        """
        with self._dispatcher.replies.expect(request_id) as pending, self._exchange.open() as channel:
            resolved = await self._dispatch(caller, name, request_id, parameters, payload, channel)
            pending.is_dispatched = True
            limit_s = resolved.launch.timeout_s + self._start_allowance_s
            try:
                async with asyncio.timeout(limit_s):
                    raw_header, body = await pending.reply
            except TimeoutError as error:
                raise PlatformError(f"invocation {request_id}: no worker has answered in {limit_s:g} s") from error
            header = ReplyHeader.from_json(raw_header)
            if header.platform_error is not None:
                raise PlatformError(f"invocation {request_id}: {header.platform_error}")
            if header.is_transferred:
                body = channel.answer()
        return InvokeResult(payload=body, header=header)

    async def _dispatch(
        self,
        caller: Caller,
        name: FunctionIdentifier,
        request_id: str,
        parameters: InvokeParameters,
        payload: bytes,
        channel: Exchange.Channel,
    ) -> ResolvedFunction:
        give_up = asyncio.get_running_loop().time() + self._patience_s
        while True:
            resolved = await self._dispatcher.versions.resolve(caller, name)
            resolved.check_invocable()
            try:
                answer = await self._dispatcher.dispatch(
                    caller, name, resolved, self._request(resolved, request_id, parameters, payload, channel)
                )
            except RedisUnavailableError as error:
                raise PlatformError(f"invocation {request_id}: {error}") from error
            match answer.verdict:
                case Verdict.DISPATCHED:
                    return resolved
                case Verdict.THROTTLED:
                    raise TooManyRequestsError(answer.reason, retry_after_s=_RETRY_AFTER_S)
                case Verdict.FULL:
                    raise TooManyRequestsError("ConcurrentInvocationLimitExceeded", retry_after_s=_RETRY_AFTER_S)
                case Verdict.STALE | Verdict.UNKNOWN | Verdict.PAUSED | Verdict.NO_WORKERS | Verdict.GONE:
                    if asyncio.get_running_loop().time() >= give_up:
                        self._refuse(request_id, answer.verdict)
            if answer.verdict is not Verdict.UNKNOWN:
                await asyncio.sleep(_PAUSE_S)

    def _request(
        self,
        resolved: ResolvedFunction,
        request_id: str,
        parameters: InvokeParameters,
        payload: bytes,
        channel: Exchange.Channel,
    ) -> InvocationRequest:
        is_large = len(payload) > INLINE_LIMIT_BYTES
        launch = resolved.launch
        header = InvokeHeader(
            request_id=request_id,
            version_key=launch.version_key,
            function_uid=launch.function_uid,
            generation=launch.generation,
            memory_mb=launch.memory_mb,
            controller=self._dispatcher.replies.controller,
            invoked_function_arn=resolved.function_arn,
            client_context=parameters.client_context,
            trace_id=parameters.trace_id,
            wants_tail=parameters.wants_tail,
            payload_url=channel.offer(payload) if is_large else "",
            answer_url=channel.answer_url,
        )
        return InvocationRequest(
            id=request_id,
            function_uid=launch.function_uid,
            generation=launch.generation,
            version_key=launch.version_key,
            memory_mb=launch.memory_mb,
            controller=self._dispatcher.replies.controller,
            header=header.to_json(),
            payload=b"" if is_large else payload,
            launch=resolved.launch_json,
        )

    def _refuse(self, request_id: str, verdict: Verdict) -> NoReturn:
        reasons = {
            Verdict.NO_WORKERS: "no worker is running",
            Verdict.PAUSED: "the cell is still reconciling after a change of Redis",
        }
        reason = reasons.get(verdict, f"its version could not be settled ({verdict})")
        raise PlatformError(f"invocation {request_id} was not accepted within {self._patience_s:g} s: {reason}")
