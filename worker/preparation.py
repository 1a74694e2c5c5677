"""Makes ready what launches need, and answers what controllers ask besides invocations."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

import orjson

from contract.bus.operations import Operations
from contract.launch import LaunchSpec
from contract.messages import INLINE_LIMIT_BYTES, LogsReply, LogsRequest, PrepareReply, PrepareRequest
from worker.code.cache import CodeCache, CodeUnavailableError
from worker.code.layers import LayerTrees
from worker.environments.provisions import Provisions
from worker.images.errors import ImageUnavailableError, RuntimeUnavailableError
from worker.images.function_images import FunctionImages
from worker.images.inspected import FunctionImage
from worker.images.runtime_images import RuntimeImages
from worker.logs.store import Cursor, LogStore

log = logging.getLogger(__name__)

S = TypeVar("S")
T = TypeVar("T")

#: Of a number in a cursor: what a file position can be. Clients may send anything.
_DIGITS: Final = 18


class Preparation:
    """Images and trees for launches: the pool asks when it starts an environment, controllers ask ahead."""

    def __init__(
        self,
        operations: Operations,
        images: RuntimeImages,
        code: CodeCache,
        layers: LayerTrees,
        function_images: FunctionImages,
        logs: LogStore,
        *,
        holder_runtime: str,
    ) -> None:
        """`holder_runtime` is one whose image can be had here: it holds the networks of container images."""
        self._operations = operations
        self._images = images
        self._code = code
        self._layers = layers
        self._function_images = function_images
        self._logs = logs
        self._holder_runtime = holder_runtime
        #: What is being answered.
        self._asked: set[tuple[str, str, str, str]] = set()

    async def provide(self, launch: LaunchSpec) -> Provisions:
        """Return what an environment is made of, once all of it is here.

        Raises RuntimeUnavailableError, CodeUnavailableError, ImageUnavailableError.
        """
        if launch.is_image:
            function_image, holder_image = await _both(
                self._function_images.ensure(launch), self._images.ensure(self._holder_runtime, launch.architecture)
            )
            return Provisions(image=function_image.image_id, holder_image=holder_image, function_image=function_image)
        image, (code_dir, layers_dir) = await _both(
            self._images.ensure(launch.runtime, launch.architecture),
            _both(self._code.ensure(launch.code_sha256), self._layers.ensure(launch.layers)),
        )
        return Provisions(image=image, code_dir=code_dir, layers_dir=layers_dir)

    async def prepare(self, request: PrepareRequest, launch: LaunchSpec) -> None:
        """Make a version launchable here, and tell the controller how that went.

        A controller asks again while it has no answer; what takes minutes is answered once.
        """
        question = (request.token, request.controller, launch.version_key, launch.image_uri)
        if question in self._asked:
            return
        self._asked.add(question)
        try:
            await self._prepare(request, launch)
        finally:
            self._asked.discard(question)

    async def _prepare(self, request: PrepareRequest, launch: LaunchSpec) -> None:
        code, reason = "", ""
        image: FunctionImage | None = None
        try:
            image = (await self.provide(launch)).function_image
        except RuntimeUnavailableError as error:
            code, reason = "InvalidRuntime", str(error)
        except CodeUnavailableError as error:
            code, reason = "InvalidZipFileException", str(error)
        except ImageUnavailableError as error:
            code, reason = error.code, error.reason
        except Exception as error:
            log.exception("preparation failed")
            code, reason = "InternalError", f"{type(error).__name__}: {error}"
        reply = PrepareReply(
            token=request.token,
            is_ready=not reason,
            reason_code=code,
            reason=reason,
            image_uri=image.uri if image else "",
            image_bytes=image.size_bytes if image else 0,
        )
        if request.controller:
            await self._operations.reply(request.controller, request.token, reply.to_json(), b"")

    async def evict(self, in_use: set[str]) -> None:
        """Remove trees and images that nobody has used for long; `in_use` are the keys of trees that are mounted."""
        await self._layers.evict(in_use)
        await self._code.evict(in_use)
        await self._function_images.collect()

    async def read_logs(self, request: LogsRequest) -> None:
        """Answer with a page of a function's log."""
        cursor = parse_cursor(request.cursor)
        limit = request.limit
        while True:
            events, after = await self._logs.read(request.function_uid, cursor, limit)
            payload = orjson.dumps(
                [
                    {"timestamp": event.at_ms, "stream": event.stream, "message": event.message}
                    for event in events
                    if event.at_ms >= request.since_ms
                ]
            )
            # A page travels through Redis. One that is too large is read again, shorter: the cursor tells its end.
            if len(payload) <= INLINE_LIMIT_BYTES or limit == 1:
                break
            limit = max(1, limit // 2)
        reply = LogsReply(token=request.token, cursor=format_cursor(after))
        await self._operations.reply(request.controller, request.token, reply.to_json(), payload)

    async def forget(self, function_uid: str) -> None:
        """A deleted function's log goes."""
        await self._logs.delete(function_uid)


def parse_cursor(text: str) -> Cursor | None:
    """Read what `format_cursor` made; None for the beginning, or for what nobody here has made."""
    parts = text.split(".")
    if len(parts) != 3 or not all(part.isdecimal() and len(part) <= _DIGITS for part in parts):
        return None
    return Cursor(segment=int(parts[0]), offset=int(parts[1]), line=int(parts[2]))


def format_cursor(cursor: Cursor | None) -> str:
    """Render a cursor for clients, to whom it is opaque."""
    return f"{cursor.segment}.{cursor.offset}.{cursor.line}" if cursor is not None else ""


async def _both(first: Coroutine[Any, Any, S], second: Coroutine[Any, Any, T]) -> tuple[S, T]:
    """Await both; when one fails, the other one is not left running, and that failure is raised alone."""
    try:
        async with asyncio.TaskGroup() as group:
            one, other = group.create_task(first), group.create_task(second)
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return one.result(), other.result()
