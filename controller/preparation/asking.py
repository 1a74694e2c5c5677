"""Asks workers to make releases launchable, and takes down their answers."""

from __future__ import annotations

import logging
from typing import Final

from contract.bus.operations import Operations, WorkerState
from contract.messages import HEADER, ID, PrepareReply, PrepareRequest
from controller.domain.function import PreparationFailure
from controller.resources.functions.preparation import PreparationService

log = logging.getLogger(__name__)

#: The reply stream of whoever takes down answers; tokens say all that is needed.
LISTENER: Final = "background"


class PreparationAsker:
    """Stateless: a question may be asked twice, and an answer be taken down twice."""

    def __init__(self, operations: Operations, preparation: PreparationService) -> None:
        self._operations = operations
        self._preparation = preparation

    async def ask(self, function_uid: str, version: str, revision_id: str) -> bool:
        """Ask one live worker for an answer, and the others to get ready too. False when there is nobody to ask."""
        launch = await self._preparation.preparation_target(function_uid, version, revision_id)
        if launch is None:
            return True
        workers = await self._operations.workers()
        live = [instance for instance, found in workers.items() if found.get("state") == WorkerState.LIVE]
        # Those that can take new environments first.
        live.sort(key=lambda instance: workers[instance].get("placeable") != "1")
        token = f"{function_uid} {version} {revision_id}"
        for at, instance in enumerate(live):
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
        function_uid, version, revision_id = token.split(" ")
        failure = None if reply.is_ready else PreparationFailure(reason_code=reply.reason_code, reason=reply.reason)
        await self._preparation.finish_preparation(function_uid, version, revision_id, failure)


def _after(entry_id: bytes) -> bytes:
    at, _, number = entry_id.partition(b"-")
    return b"%s-%d" % (at, int(number) + 1)
