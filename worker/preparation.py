"""Makes ready what launches need, and answers what controllers ask besides invocations."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

import orjson

from contract.bus.operations import Operations
from contract.launch import LaunchSpec
from contract.messages import INLINE_LIMIT_BYTES, LogsReply, LogsRequest, PrepareReply, PrepareRequest
from worker.code.cache import CodeCache, CodeUnavailableError
from worker.images.errors import RuntimeUnavailableError
from worker.images.runtime_images import RuntimeImages
from worker.logs.store import Cursor, LogStore

log = logging.getLogger(__name__)

#: Of a number in a cursor: what a file position can be. Clients may send anything.
_DIGITS: Final = 18


class Preparation:
    """Images and code for launches: the pool asks when it starts an environment, controllers ask ahead."""

    def __init__(self, operations: Operations, images: RuntimeImages, code: CodeCache, logs: LogStore) -> None:
        self._operations = operations
        self._images = images
        self._code = code
        self._logs = logs

    async def image(self, launch: LaunchSpec) -> str:
        """Return the image for the runtime. Raises RuntimeUnavailableError."""
        return await self._images.ensure(launch.runtime, launch.architecture)

    async def code(self, launch: LaunchSpec) -> Path:
        """Return the directory of the unpacked code. Raises CodeUnavailableError."""
        return await self._code.ensure(launch.code_sha256)

    async def prepare(self, request: PrepareRequest, launch: LaunchSpec) -> None:
        """Make a version launchable here, and tell the controller how that went."""
        code, reason = "", ""
        try:
            await self.image(launch)
            await self.code(launch)
        except RuntimeUnavailableError as error:
            code, reason = "InvalidRuntime", str(error)
        except CodeUnavailableError as error:
            code, reason = "InvalidZipFileException", str(error)
        except Exception as error:
            log.exception("preparation failed")
            code, reason = "InternalError", f"{type(error).__name__}: {error}"
        reply = PrepareReply(token=request.token, is_ready=not reason, reason_code=code, reason=reason)
        if request.controller:
            await self._operations.reply(request.controller, request.token, reply.to_json(), b"")

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
