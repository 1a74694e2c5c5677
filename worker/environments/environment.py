"""One execution environment: a sandbox, the Runtime API inside it, its log; and what each invocation makes of them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from contract.launch import LaunchSpec
from runtimes.catalog import RuntimeEntry
from worker.endpoints.server import FunctionEndpoints, SandboxEndpoints
from worker.environments.failures import TIMED_OUT, Failure, body_of, exited, log_lines, no_working_directory
from worker.environments.process import archive_process, image_process, words
from worker.environments.provisions import Provisions
from worker.environments.state import Change, State, next_state
from worker.environments.tracing import new_trace_header
from worker.images.inspected import FunctionImage
from worker.logs.capture import LogCapture
from worker.logs.lines import Report, ReportStatus, image_line, init_report_line, init_start_line, log_stream_name
from worker.logs.store import LogStore
from worker.logs.tail import TailBuffer
from worker.runtime_api import fatal_errors
from worker.runtime_api.fatal_errors import FatalErrorType
from worker.runtime_api.server import RuntimeApiServer
from worker.runtime_api.types import ReportedError, ResponseTooLarge, RuntimeEvent, RuntimeResponse
from worker.sandbox.driver import (
    ExitStatus,
    ProcessSpec,
    Sandbox,
    SandboxDriver,
    SandboxGoneError,
    SandboxSpec,
    SandboxStartFailedError,
    WorkingDirectoryError,
)

log = logging.getLogger(__name__)

#: Lambda's limit for the Init phase; what takes longer is begun again, within the invocation and its time-out.
INIT_LIMIT_S: Final = 10.0
#: After its response a runtime that exits anyway (too large an answer) gets this long, before it is killed.
_EXIT_GRACE_S: Final = 0.2
#: A killed sandbox ends in milliseconds; one that has not after this long is given up.
_EXIT_LIMIT_S: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """What an environment needs to know of one invocation."""

    request_id: str
    invoked_function_arn: str
    payload: bytes
    client_context: str = ""
    trace_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class InvocationResult:
    """How an invocation ended: the function answered, or failed (never the platform)."""

    payload: bytes
    #: None when the function answered.
    error_type: str | None
    #: The last 4 KB of the log, the platform's lines included.
    tail: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentParts:
    """What all environments of a worker share."""

    driver: SandboxDriver
    log_store: LogStore
    #: Sandboxes being started at a time; more only queue inside the engine.
    starts: asyncio.Semaphore
    init_limit_s: float = INIT_LIMIT_S
    #: None: functions reach nothing through the worker.
    endpoints: FunctionEndpoints | None = None


class Environment:
    """Order: `start`, then `invoke` one at a time, then `stop`. Changes of state come from here only."""

    def __init__(
        self, parts: EnvironmentParts, launch: LaunchSpec, runtime: RuntimeEntry | None, reservation: str
    ) -> None:
        """`runtime` is None for container images."""
        self.id = uuid.uuid4().hex
        self.launch = launch
        #: Under which the worker's memory for it is reserved in Redis.
        self.reservation = reservation
        self.state = State.STARTING
        self.idle_since = 0.0
        self._parts = parts
        self._runtime = runtime
        self._image: FunctionImage | None = None
        self._process: ProcessSpec | None = None
        #: When the process of this life was let go: from then on its time counts.
        self._released_at = 0.0
        self._sandbox: Sandbox | None = None
        self._api: RuntimeApiServer | None = None
        self._endpoints: SandboxEndpoints | None = None
        self._capture: LogCapture | None = None
        #: Outlives a restart: an invocation may see one.
        self._tail = TailBuffer()
        self._restart: asyncio.Task[None] | None = None
        self._end: asyncio.Task[None] | None = None
        #: Until the first invocation has reported it.
        self._init_ms: float | None = None
        self._init_failure: Failure | None = None
        #: The Init phase has failed: what it printed belongs to the first invocation's tail.
        self._has_unread_init = False
        self._stream = log_stream_name(datetime.now(UTC).date(), launch.version, self.id)

    async def start(self, provisions: Provisions) -> None:
        """Start the sandbox and initialise the runtime. Raises SandboxStartFailedError, having left nothing.

        A runtime that fails to initialise is no failure of the start: the first invocation reports it.
        """
        spec = self._spec(provisions)
        self._image = provisions.function_image
        self._process = self._with_endpoints(self._process_of())
        try:
            # Only what the engine does is bounded: one function's slow initialisation is no other's affair.
            async with self._parts.starts:
                await self._attach(await self._parts.driver.start(spec))
        except SandboxStartFailedError:
            self._change(Change.FAILED)
            raise
        except OSError as error:
            # Its log or Runtime API could not be attached (no descriptors, no disk). Whoever started it stops it.
            raise SandboxStartFailedError(f"environment {self.id} could not be attached: {error}") from error
        if self._runtime is not None:
            self._capture_line(self._init_start(self._runtime, provisions.image))
        try:
            failure = await self._initialise(self._parts.init_limit_s)
        except SandboxStartFailedError:
            self._change(Change.FAILED)
            raise
        self._init_ms = (time.monotonic() - self._released_at) * 1000
        await self._parts.driver.flush_log(self._living)
        if failure is None:
            self._change(Change.READY)
            self._begin_watch()
            return
        status = ReportStatus.TIMEOUT if failure.is_timeout else ReportStatus.ERROR
        self._capture_line(init_report_line(self._init_ms, status, "" if failure.is_timeout else failure.error_type))
        self._init_ms = None
        self._has_unread_init = True
        if failure.is_timeout:
            await self._break_down()
            await self._settled()
            return
        assert self._sandbox is not None
        await self._parts.driver.kill(self._sandbox)
        self._init_failure = failure
        self._change(Change.READY)

    async def invoke(self, invocation: Invocation) -> InvocationResult:
        """Run one invocation, within the function's time-out. Raises SandboxStartFailedError if a restart failed.

        When it returns, no user code of the invocation runs any more (but what a runtime that stays does by itself).
        """
        await self._settled()
        if self.state is State.DEAD:
            raise SandboxStartFailedError(f"environment {self.id} could not be started again")
        is_gated = self.state is State.GATED
        self._change(Change.EVENT)
        self._end_watch()
        assert self._capture is not None
        self._capture.begin(invocation.request_id, self.launch.version, keeps_tail=self._has_unread_init)
        self._has_unread_init = False
        began = time.monotonic()
        answer = await self._run(invocation, is_gated=is_gated)
        if answer is None:
            await self._revive()
            began = time.monotonic()
            answer = await self._run(invocation, is_gated=True)
        # What a container takes to be made is no time of the function's.
        duration_ms = (time.monotonic() - max(began, self._released_at)) * 1000
        await self._parts.driver.flush_log(self._living)
        failed = answer if isinstance(answer, Failure) else None
        report = self._report(invocation.request_id, duration_ms, failed)
        if failed is not None:
            self._capture_line(log_lines(failed, invocation.request_id, self.launch.timeout_s, datetime.now(UTC)))
        tail = self._capture.end(report)
        self._init_ms = None
        self.idle_since = time.monotonic()
        if failed is not None and failed.is_fatal:
            await self._break_down()
        else:
            self._change(Change.ANSWERED)
            self._begin_watch()
        if isinstance(answer, Failure):
            body = body_of(answer, invocation.request_id, self.launch.timeout_s)
            return InvocationResult(payload=body, error_type=answer.error_type, tail=tail)
        assert answer is not None
        return InvocationResult(payload=answer.body, error_type=None, tail=tail)

    async def is_alive(self) -> bool:
        """Wait for a restart that is under way, and tell whether the environment can still serve."""
        await self._settled()
        return self.state is not State.DEAD

    async def stop(self) -> None:
        """Destroy the sandbox with all that is in it. Idempotent; whatever ran in it is gone on return.

        Two callers wait for one and the same end, which goes on when either of them is cancelled.
        """
        self._change(Change.STOP)
        self._end_watch()
        if self._end is None or (self._end.done() and self._sandbox is not None):
            self._end = asyncio.create_task(self._stop(), name=f"stop-{self.id}")
        await asyncio.shield(self._end)

    async def _stop(self) -> None:
        if self._restart is not None:
            self._restart.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await self._restart
        sandbox = self._sandbox
        if sandbox is not None:
            await self._parts.driver.kill(sandbox)
        await self._detach()
        if sandbox is not None:
            await self._parts.driver.destroy(sandbox)
            self._sandbox = None

    # --- the steps of an invocation ---------------------------------------------------------------------------

    async def _run(self, invocation: Invocation, *, is_gated: bool) -> RuntimeResponse | Failure | None:
        """Return the answer; None when the runtime ended by itself before it took the event (never when gated)."""
        timeout_s = float(self.launch.timeout_s)
        if self._init_failure is not None:
            # The Init phase of this environment has failed just now: that is this invocation's answer.
            failure, self._init_failure = self._init_failure, None
            return failure
        began = time.monotonic()
        if is_gated:
            if failed := await self._initialise_within(timeout_s):
                return failed
            began = self._released_at
        deadline = began + timeout_s
        deadline_at_ms = int((time.time() - time.monotonic() + deadline) * 1000)
        assert self._api is not None
        assert self._sandbox is not None
        event = RuntimeEvent(
            request_id=invocation.request_id,
            deadline_at_ms=deadline_at_ms,
            invoked_function_arn=invocation.invoked_function_arn,
            payload=invocation.payload,
            trace_id=invocation.trace_id or new_trace_header(time.time()),
            client_context=invocation.client_context,
        )
        outcome = self._api.invoke(event)
        await self._first_of(deadline - time.monotonic(), outcome)
        if outcome.done() and not outcome.cancelled():
            match outcome.result():
                case RuntimeResponse() as response:
                    return response
                case ReportedError(body=body, error_type=error_type):
                    return Failure(body=body, error_type=error_type or FatalErrorType.FUNCTION_UNKNOWN, is_fatal=False)
                case ResponseTooLarge():
                    await self._first_of(_EXIT_GRACE_S)
                    body = fatal_errors.response_too_large_error()
                    return Failure(body=body, error_type=FatalErrorType.FUNCTION_RESPONSE_TOO_LARGE)
        if self._sandbox.exited.done():
            if not is_gated and self._api.is_event_untaken:
                return None
            return exited(self._sandbox.exited.result())
        return TIMED_OUT

    async def _initialise(self, limit_s: float) -> Failure | None:
        """Open the gate, and wait until the runtime asks for its first event.

        Raises SandboxStartFailedError, of a container image whose container could not be started.
        """
        assert self._api is not None
        assert self._sandbox is not None
        assert self._process is not None
        ready, init_error = self._api.ready, self._api.init_error
        try:
            await self._release(self._process)
            await self._first_of(limit_s, ready, init_error)
        except SandboxGoneError:
            # Its end is known in a moment.
            await self._first_of(_EXIT_GRACE_S)
        except WorkingDirectoryError as error:
            return self._with_image_line(no_working_directory(error))
        if ready.done() and not ready.cancelled():
            self._parts.driver.limit_cpu(self._sandbox)
            return None
        if init_error.done() and not init_error.cancelled():
            reported = init_error.result()
            return Failure(body=reported.body, error_type=reported.error_type or FatalErrorType.RUNTIME_UNKNOWN)
        if self._sandbox.exited.done():
            return self._with_image_line(exited(self._sandbox.exited.result()))
        return TIMED_OUT

    async def _release(self, process: ProcessSpec) -> None:
        # Where no gate waits, a container is started now.
        turn = self._parts.starts if self._image is not None else contextlib.nullcontext()
        try:
            async with turn:
                await self._parts.driver.release(self._living, process)
        finally:
            self._released_at = time.monotonic()

    async def _initialise_within(self, limit_s: float) -> Failure | None:
        """Initialise as a part of an invocation."""
        failure = await self._initialise(limit_s)
        if failure is not None:
            await self._parts.driver.flush_log(self._living)
            status = ReportStatus.TIMEOUT if failure.is_timeout else ReportStatus.ERROR
            duration_ms = (time.monotonic() - self._released_at) * 1000
            error_type = "" if failure.is_timeout else failure.error_type
            self._capture_line(init_report_line(duration_ms, status, error_type, phase="invoke"))
        return failure

    async def _first_of(self, limit_s: float, *futures: asyncio.Future[Any]) -> None:
        """Wait for one of the futures, the end of the sandbox, or the limit."""
        assert self._sandbox is not None
        waited = [*futures, self._sandbox.exited]
        await asyncio.wait(waited, timeout=max(limit_s, 0.0), return_when=asyncio.FIRST_COMPLETED)

    @property
    def _living(self) -> Sandbox:
        assert self._sandbox is not None
        return self._sandbox

    def _spec(self, provisions: Provisions) -> SandboxSpec:
        endpoints, image = self._parts.endpoints, provisions.function_image
        return SandboxSpec(
            environment_id=self.id,
            image=provisions.image,
            holder_image=provisions.holder_image,
            memory_mb=self.launch.memory_mb,
            ephemeral_storage_mb=self.launch.ephemeral_storage_mb,
            code_dir=provisions.code_dir,
            layers_dir=provisions.layers_dir,
            listeners=endpoints.listeners if endpoints else (),
            names=endpoints.names if endpoints else {},
            volumes=image.volumes if image else (),
            working_directory=image.working_directory if image else "",
            labels={"lambdock.function": self.launch.function_name, "lambdock.version": self.launch.version},
        )

    def _process_of(self) -> ProcessSpec:
        if self._image is not None:
            return image_process(self.launch, self._image, self._stream)
        assert self._runtime is not None
        return archive_process(self.launch, self._runtime, self._stream)

    def _with_image_line(self, failure: Failure) -> Failure:
        """Log what could not be launched, when that is the failure."""
        if failure.reason and self._image is not None and self._process is not None:
            entry_point, command = words(self.launch, self._image)
            self._capture_line(image_line(failure.reason, entry_point, command, self._process.cwd))
        return failure

    def _init_start(self, runtime: RuntimeEntry, image: str) -> str:
        number = runtime.name.removeprefix(runtime.family)
        arn = f"arn:aws:lambda:{self.launch.region}::runtime:{image.rpartition(':')[2]}"
        return init_start_line(f"{runtime.family}:{number}.v1", arn)

    def _report(self, request_id: str, duration_ms: float, failed: Failure | None) -> Report:
        assert self._sandbox is not None
        status = None
        # Whoever was killed for it had used all of it, though the kernel's account may be gone before we read it.
        is_oom = failed is not None and failed.exit is not None and failed.exit.oom_killed
        if failed is not None and failed.is_timeout:
            status, duration_ms = ReportStatus.TIMEOUT, self.launch.timeout_s * 1000.0
        elif failed is not None:
            status = ReportStatus.ERROR
        return Report(
            request_id=request_id,
            duration_ms=duration_ms,
            memory_size_mb=self.launch.memory_mb,
            max_memory_used_mb=self.launch.memory_mb if is_oom else self._parts.driver.memory_peak_mb(self._sandbox),
            init_duration_ms=self._init_ms,
            status=status,
            error_type=failed.error_type if failed is not None else "",
        )

    # --- life ---------------------------------------------------------------------------------------------------

    async def _break_down(self) -> None:
        """Make sure that nothing of the runtime runs on, and start its sandbox again in the background."""
        self._change(Change.BROKEN)
        self._end_watch()
        assert self._sandbox is not None
        await self._parts.driver.kill(self._sandbox)
        self._restart = asyncio.create_task(self._start_again(), name=f"restart-{self.id}")

    async def _revive(self) -> None:
        """Start the sandbox again for an invocation whose runtime ended before it began, which is not its failure."""
        await self._break_down()
        await self._settled()
        if self.state is State.DEAD:
            raise SandboxStartFailedError(f"environment {self.id} could not be started again")
        self._change(Change.EVENT)

    async def _start_again(self) -> None:
        assert self._sandbox is not None
        try:
            # Not awaited itself: cancelling this would cancel the driver's future.
            await asyncio.wait([self._sandbox.exited], timeout=_EXIT_LIMIT_S)
            if not self._sandbox.exited.done():
                raise SandboxStartFailedError(f"sandbox {self._sandbox.id} was killed {_EXIT_LIMIT_S:g} s ago and runs")
            await self._detach()
            async with self._parts.starts:
                await self._attach(await self._parts.driver.restart(self._sandbox))
        except (SandboxStartFailedError, OSError) as error:
            # Whatever is left of it is destroyed by `stop`.
            log.warning("sandbox did not restart", extra={"environment_id": self.id, "error": str(error)})
            self._change(Change.FAILED)
            return
        self._change(Change.AT_GATE)

    async def _settled(self) -> None:
        if self._restart is not None:
            await asyncio.shield(self._restart)
            self._restart = None

    async def _attach(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._capture = LogCapture(
            sandbox.run_dir / "log",
            store=self._parts.log_store,
            function_uid=self.launch.function_uid,
            stream=self._stream,
            now_ms=lambda: time.time_ns() // 1_000_000,
            tail=self._tail,
        )
        # First, as it owns the socket, whatever fails now.
        self._api = RuntimeApiServer(sandbox.runtime_api_listener)
        if self._parts.endpoints is not None:
            self._endpoints = self._parts.endpoints.serve(sandbox.listeners, self.launch)
        self._capture.open()
        await self._api.start()

    def _with_endpoints(self, process: ProcessSpec) -> ProcessSpec:
        """Tell a process where its services are, unless function or image do."""
        if self._parts.endpoints is None:
            return process
        return replace(process, env={**self._parts.endpoints.variables_for(process.env), **process.env})

    async def _detach(self) -> None:
        if self._api is not None:
            await self._api.close()
            self._api = None
        if self._endpoints is not None:
            self._endpoints.close()
            self._endpoints = None
        if self._capture is not None:
            self._capture.close()
            self._capture = None

    def _capture_line(self, line: str) -> None:
        if line and self._capture is not None:
            self._capture.line(line)

    def _begin_watch(self) -> None:
        """An idle runtime may exit by itself; its sandbox is then started again before anybody needs it."""
        assert self._sandbox is not None
        self._sandbox.exited.add_done_callback(self._on_idle_exit)

    def _end_watch(self) -> None:
        if self._sandbox is not None:
            self._sandbox.exited.remove_done_callback(self._on_idle_exit)

    def _on_idle_exit(self, _: asyncio.Future[ExitStatus]) -> None:
        if self.state is State.IDLE:
            self._change(Change.BROKEN)
            self._restart = asyncio.create_task(self._start_again(), name=f"restart-{self.id}")

    def _change(self, change: Change) -> None:
        self.state = next_state(self.id, self.state, change)
