"""Asks workers to make releases launchable, and takes down their answers."""

from __future__ import annotations

import logging
from typing import Final

from contract.bus.operations import Operations, WorkerState
from contract.messages import HEADER, ID, PrepareReply, PrepareRequest
from controller.domain.function import PreparationFailure
from controller.domain.release import FoundImage, is_by_digest
from controller.resources.functions.preparation import PreparationService

log = logging.getLogger(__name__)

#: The reply stream of whoever takes down answers; tokens say all that is needed.
LISTENER: Final = "background"
#: Ends the token of a question to one worker alone, whose answer says what an image's tag means.
_FIRST: Final = "first"


class PreparationAsker:
    """Stateless: a question may be asked twice, and an answer be taken down twice."""

    def __init__(self, operations: Operations, preparation: PreparationService) -> None:
        self._operations = operations
        self._preparation = preparation

    async def ask(self, function_uid: str, version: str, revision_id: str) -> bool:
        """Ask one live worker for an answer, and the others to get ready too. False when there is nobody to ask.

        While nobody knows what an image's tag means, the others would find out by themselves, and maybe otherwise:
        they are asked when the first has answered.
        """
        launch = await self._preparation.preparation_target(function_uid, version, revision_id)
        if launch is None:
            return True
        live = await self._live()
        is_first = launch.is_image and not is_by_digest(launch.image_uri)
        token = " ".join((function_uid, version, revision_id, *((_FIRST,) if is_first else ())))
        for at, instance in enumerate(live[:1] if is_first else live):
            request = PrepareRequest(token=token, controller=LISTENER if at == 0 else "")
            await self._operations.ask(instance, "prepare", request.to_json(), launch.to_json())
        return bool(live)

    async def listen(self) -> None:
        """Take down answers for ever."""
        bus = self._operations.bus
        stream = bus.keys.reply(LISTENER)
        async for entry_id, entry in bus.read(stream, b"0-0"):
            fields = dict(zip(entry[::2], entry[1::2], strict=True))
            try:
                await self._take_down(fields[ID].decode(), PrepareReply.from_json(fields[HEADER]))
            except Exception:
                # The sweep asks again; one answer must not end the listening.
                log.exception("an answer could not be taken down", extra={"token": str(fields.get(ID, ""))})
            await bus.command("XTRIM", stream, "MINID", _after(entry_id))

    async def _take_down(self, token: str, reply: PrepareReply) -> None:
        function_uid, version, revision_id, *rest = token.split(" ")
        failure = None if reply.is_ready else PreparationFailure(reason_code=reply.reason_code, reason=reply.reason)
        found = FoundImage(uri=reply.image_uri, size_bytes=reply.image_bytes) if reply.image_uri else None
        is_news = await self._preparation.finish_preparation(function_uid, version, revision_id, failure, found)
        if _FIRST in rest and is_news:
            await self._ask_the_others(function_uid, version)

    async def _ask_the_others(self, function_uid: str, version: str) -> None:
        """Let the other workers fetch an image that has just been found, and go on with versions that waited for it.

        Nobody waits for the others: what is lost here, a worker does when it gets its first invocation.
        """
        for waiting in await self._preparation.list_unprepared():
            if waiting.function_uid == function_uid:
                await self.ask(function_uid, waiting.version, waiting.revision_id)
        launch = await self._preparation.current_launch(function_uid, version)
        if launch is None:
            return
        request = PrepareRequest(token=f"{function_uid} {version}", controller="")
        for instance in await self._live():
            await self._operations.ask(instance, "prepare", request.to_json(), launch.to_json())

    async def _live(self) -> list[str]:
        workers = await self._operations.workers()
        live = [instance for instance, found in workers.items() if found.get("state") == WorkerState.LIVE]
        # Those that can take new environments first.
        live.sort(key=lambda instance: workers[instance].get("placeable") != "1")
        return live


def _after(entry_id: bytes) -> bytes:
    at, _, number = entry_id.partition(b"-")
    return b"%s-%d" % (at, int(number) + 1)
