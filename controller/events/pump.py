"""Dispatches queued events as soon as there is room for them."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from contract.bus.connection import RedisReplyError, RedisUnavailableError
from contract.bus.operations import ClaimedEvent, InvocationRequest, Operations, Verdict
from contract.messages import InvokeHeader
from controller.api.identity import Caller
from controller.domain.arn import FunctionIdentifier
from controller.domain.errors import LambdaError, ResourceNotFoundError
from controller.events.acceptor import EventTarget
from controller.events.backoff import throttle_delay_ms
from controller.invocation.invoker import Dispatcher
from controller.resources.functions.resolver import ResolvedFunction

log = logging.getLogger(__name__)

_BATCH: Final = 32
_IDLE_S: Final = 1.0
#: A version that was settled anew is tried again at once, this often.
_TRIES: Final = 3


class EventPump:
    """One per controller process; all of them share the queues, and the scripts keep them apart."""

    def __init__(self, operations: Operations, dispatcher: Dispatcher) -> None:
        self._operations = operations
        self._dispatcher = dispatcher

    async def run(self) -> None:
        """Dispatch for ever. Whatever fails is claimed again later."""
        bus = self._operations.bus
        while True:
            try:
                claims = await self._operations.claim(self._controller, _BATCH)
                if claims:
                    await asyncio.gather(*(self._handle(claim) for claim in claims))
                else:
                    await bus.pop(bus.keys.events_wake(), block_s=_IDLE_S)
            except (RedisUnavailableError, RedisReplyError) as error:
                log.warning("events wait for Redis", extra={"error": str(error)})
                await asyncio.sleep(_IDLE_S)

    @property
    def _controller(self) -> str:
        return self._dispatcher.replies.controller

    async def _handle(self, claim: ClaimedEvent) -> None:
        try:
            await self._dispatch(claim)
        except ResourceNotFoundError as error:
            log.warning("event dropped", extra={"request_id": claim.id, "reason": str(error)})
            await self._operations.drop(claim.id, self._controller)
        except LambdaError as error:
            log.info("event deferred", extra={"request_id": claim.id, "reason": str(error)})
            await self._defer(claim)
        except (RedisUnavailableError, RedisReplyError):
            raise
        except Exception:
            # The others of its batch must not suffer; its claim ends by itself.
            log.exception("event not dispatched", extra={"request_id": claim.id})

    async def _dispatch(self, claim: ClaimedEvent) -> None:
        target = EventTarget.from_json(claim.header)
        caller = Caller(account=target.account, region=target.region)
        name = FunctionIdentifier(name=target.name, qualifier=target.qualifier)
        for _ in range(_TRIES):
            resolved = await self._dispatcher.versions.resolve(caller, name)
            if resolved.launch.function_uid != claim.function_uid:
                # What is remembered here may be the namesake that was deleted before the event was accepted.
                resolved = await self._dispatcher.versions.resolve_now(caller, name)
            if resolved.launch.function_uid != claim.function_uid:
                raise ResourceNotFoundError(f"function {target.name} was deleted after the event was accepted")
            resolved.check_invocable()
            answer = await self._dispatcher.dispatch(caller, name, resolved, self._request(claim, resolved))
            match answer.verdict:
                case Verdict.DISPATCHED | Verdict.GONE:
                    return
                case Verdict.STALE | Verdict.UNKNOWN:
                    continue
                case Verdict.THROTTLED | Verdict.FULL | Verdict.NO_WORKERS | Verdict.PAUSED:
                    break
        await self._defer(claim)

    async def _defer(self, claim: ClaimedEvent) -> None:
        await self._operations.defer(claim.id, self._controller, throttle_delay_ms(claim.attempt))

    def _request(self, claim: ClaimedEvent, resolved: ResolvedFunction) -> InvocationRequest:
        launch = resolved.launch
        header = InvokeHeader(
            request_id=claim.id,
            version_key=launch.version_key,
            function_uid=launch.function_uid,
            generation=launch.generation,
            memory_mb=launch.memory_mb,
            controller=self._controller,
            invoked_function_arn=resolved.function_arn,
            event=claim.id,
            payload_blob=claim.blob,
        )
        return InvocationRequest(
            # The slot of an attempt that was lost with its worker may still be counted: attempts have ids of their own.
            id=f"{claim.id}#{claim.attempt}",
            function_uid=launch.function_uid,
            generation=launch.generation,
            version_key=launch.version_key,
            memory_mb=launch.memory_mb,
            controller=self._controller,
            header=header.to_json(),
            payload=claim.payload,
            launch=resolved.launch_json,
            event=claim.id,
        )
