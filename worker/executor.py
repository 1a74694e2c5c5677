"""Runs one invocation on this worker: environment, event, answer, completion."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from contract.bus.connection import RedisUnavailableError
from contract.bus.operations import Completion, Operations
from contract.launch import LaunchSpec
from contract.messages import INLINE_LIMIT_BYTES, InvokeHeader, ReplyHeader
from worker.code.cache import CodeUnavailableError
from worker.environments.environment import Environment, Invocation, InvocationResult
from worker.environments.pool import EnvironmentPool
from worker.images.errors import ImageUnavailableError, RuntimeUnavailableError
from worker.sandbox.driver import ImageStartFailedError, SandboxStartFailedError
from worker.transfer import Transfer, TransferError

log = logging.getLogger(__name__)

#: A completion is tried for this long while Redis is away; then the worker is as good as fenced.
COMPLETE_RETRY_S: Final = 60.0
#: An event that the platform could not run is tried again after this.
EVENT_RETRY_MS: Final = 2000
#: A heartbeat reconciles within a second.
_RECONCILE_PAUSE_S: Final = 0.2
#: ValueError: a launch specification that this release can't read.
_START_ERRORS = (
    SandboxStartFailedError,
    RuntimeUnavailableError,
    CodeUnavailableError,
    ImageUnavailableError,
    TimeoutError,
    LookupError,
    ValueError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One invocation as it lay in the inbox."""

    id: str
    is_cold: bool
    #: The pool that its slot is charged to; only for reconciling.
    pool: str
    header: InvokeHeader
    raw_header: bytes
    payload: bytes
    launch: bytes
    evict: tuple[str, ...]


class Executor:
    """Runs deliveries, each in its own task.

    `authority` returns while this instance may run what it was given. `on_fenced` is called when Redis says that this
    instance is over.
    """

    def __init__(
        self,
        operations: Operations,
        pool: EnvironmentPool,
        transfer: Transfer,
        *,
        authority: Callable[[], Awaitable[None]],
        on_fenced: Callable[[], None],
        on_start: Callable[[bool], None],
    ) -> None:
        self.last_inbox = b"0-0"
        self._operations = operations
        self._pool = pool
        self._transfer = transfer
        self._authority = authority
        self._on_fenced = on_fenced
        self._on_start = on_start
        self._held: dict[str, Delivery] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def accept(self, delivery: Delivery) -> None:
        """Begin to run a delivery. Returns at once; a repeated one is ignored."""
        if delivery.id in self._tasks:
            return
        self._held[delivery.id] = delivery
        if delivery.is_cold:
            # At once, as it is held at once: a reconciliation may come before it starts.
            self._pool.note(delivery.id, delivery.header.memory_mb)
        task = asyncio.create_task(self._run(delivery), name=f"invocation-{delivery.id}")
        self._tasks[delivery.id] = task
        task.add_done_callback(lambda done: self._ended(delivery.id, done))

    @property
    def held_count(self) -> int:
        """Invocations that are not completed yet."""
        return len(self._held)

    def held(self) -> dict[str, dict[str, Any]]:
        """What this worker holds, as `reconcile` wants it."""
        return {
            delivery.id: {
                "uid": delivery.header.function_uid,
                "pool": delivery.pool,
                "controller": delivery.header.controller,
                "version": delivery.header.version_key,
                "generation": delivery.header.generation,
                "memory": delivery.header.memory_mb,
                "event": delivery.header.event,
                "start": "cold" if delivery.is_cold else "warm",
            }
            for delivery in self._held.values()
        }

    async def wait_idle(self) -> None:
        """Return when no invocation is held."""
        while self._tasks:
            await asyncio.wait(list(self._tasks.values()))

    async def abandon(self) -> None:
        """Stop working on everything, without telling anybody: this instance has been fenced."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._held.clear()

    # --- one invocation -------------------------------------------------------------------------------------------

    async def _run(self, delivery: Delivery) -> None:
        if delivery.evict:
            await self._pool.evict(list(delivery.evict))
        environment = await self._environment(delivery)
        if environment is None:
            return
        try:
            payload = await self._payload(delivery)
            await self._authority()
            result = await environment.invoke(
                Invocation(
                    request_id=delivery.header.request_id,
                    invoked_function_arn=delivery.header.invoked_function_arn,
                    payload=payload,
                    client_context=delivery.header.client_context or "",
                    trace_id=delivery.header.trace_id or "",
                )
            )
            header, body = await self._reply(delivery, environment, result)
        except (TransferError, SandboxStartFailedError) as error:
            log.error("invocation failed", extra={"request_id": delivery.header.request_id, "error": str(error)})
            is_reusable = isinstance(error, TransferError)
            await self._complete(delivery, environment, is_reusable, _platform_failure(str(error)), b"", False)
            return
        await self._complete(delivery, environment, True, header, body, True)

    async def _environment(self, delivery: Delivery) -> Environment | None:
        try:
            launch = LaunchSpec.from_json(delivery.launch) if delivery.is_cold else None
            environment = await self._pool.acquire(delivery.header.version_key, launch, delivery.id)
        except _START_ERRORS as error:
            reason = str(error) or type(error).__name__
            log.error("environment did not start", extra={"request_id": delivery.header.request_id, "error": reason})
            is_machine_s = isinstance(error, SandboxStartFailedError | RuntimeUnavailableError)
            if is_machine_s and not isinstance(error, ImageStartFailedError):
                # Of this machine, not of one function.
                self._on_start(False)
            await self._not_started(delivery, reason)
            return None
        if delivery.is_cold:
            self._on_start(True)
        return environment

    async def _not_started(self, delivery: Delivery, reason: str) -> None:
        """No runtime has seen it: let another worker try, else tell the caller."""
        answer = "exhausted"
        if delivery.is_cold:
            answer = await self._operations.handback(
                self._pool.instance, delivery.id, delivery.raw_header, delivery.payload, delivery.launch
            )
        if answer == "fenced":
            self._on_fenced()
            return
        if answer in {"exhausted", "unknown"}:
            message = _platform_failure(f"no environment of the function could be started: {reason}")
            if await self._tell(delivery, message, b"", is_reusable=False, acknowledge=False) is Completion.FENCED:
                self._on_fenced()
                return
        self._held.pop(delivery.id, None)
        if delivery.is_cold:
            await self._pool.abandon(delivery.id)

    async def _payload(self, delivery: Delivery) -> bytes:
        if delivery.header.payload_url:
            return await self._transfer.fetch(delivery.header.payload_url)
        if delivery.header.payload_blob:
            return await self._transfer.blob(delivery.header.payload_blob)
        return delivery.payload

    async def _reply(
        self, delivery: Delivery, environment: Environment, result: InvocationResult
    ) -> tuple[ReplyHeader, bytes]:
        is_waited_for = not delivery.header.event
        is_large = len(result.payload) > INLINE_LIMIT_BYTES
        if is_waited_for and is_large:
            await self._transfer.put(delivery.header.answer_url, result.payload)
        header = ReplyHeader(
            function_error="Unhandled" if result.error_type is not None else None,
            executed_version=environment.launch.version,
            log_result=base64.b64encode(result.tail).decode() if delivery.header.wants_tail else None,
            is_transferred=is_large,
        )
        return header, b"" if is_large else result.payload

    async def _complete(
        self,
        delivery: Delivery,
        environment: Environment,
        is_reusable: bool,
        header: ReplyHeader,
        body: bytes,
        acknowledge: bool,
    ) -> None:
        try:
            completion = await self._tell(delivery, header, body, is_reusable=is_reusable, acknowledge=acknowledge)
        except RedisUnavailableError:
            log.error("completion could not be told to Redis", extra={"request_id": delivery.header.request_id})
            self._on_fenced()
            return
        self._held.pop(delivery.id, None)
        match completion:
            case Completion.IDLE:
                self._pool.settle(environment)
            case Completion.FENCED | Completion.UNKNOWN:
                self._on_fenced()
            case Completion.DESTROY | Completion.IGNORED:
                await self._pool.give_up(environment)

    async def _tell(
        self, delivery: Delivery, header: ReplyHeader, body: bytes, *, is_reusable: bool, acknowledge: bool
    ) -> Completion:
        """Complete in Redis; in one that has lost this instance, again until a heartbeat has made it known there.

        Raises RedisUnavailableError after `COMPLETE_RETRY_S`.
        """
        give_up = asyncio.get_running_loop().time() + COMPLETE_RETRY_S
        while True:
            completion = await self._operations.complete(
                self._pool.instance,
                delivery.id,
                is_reusable=is_reusable,
                header=header.to_json(),
                payload=body,
                acknowledge=acknowledge,
                retry_ms=EVENT_RETRY_MS,
                last_inbox=self.last_inbox,
                retry_s=COMPLETE_RETRY_S,
            )
            if completion is not Completion.UNKNOWN or asyncio.get_running_loop().time() >= give_up:
                return completion
            await asyncio.sleep(_RECONCILE_PAUSE_S)

    def _ended(self, delivery_id: str, task: asyncio.Task[None]) -> None:
        self._tasks.pop(delivery_id, None)
        if not task.cancelled() and task.exception() is not None:
            # A bug of ours: nobody can say what this environment is doing. The successor starts from nothing.
            log.critical("an invocation broke the worker", exc_info=task.exception())
            self._on_fenced()


def _platform_failure(reason: str) -> ReplyHeader:
    return ReplyHeader(platform_error=reason)
