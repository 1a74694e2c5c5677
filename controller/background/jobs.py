"""The jobs that RQ runs. All are idempotent; the sweep repeats what a crash has left half done."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import Final

from contract.blobs.open import open_blob_store
from controller.process import open_parts
from controller.settings import ControllerSettings

log = logging.getLogger(__name__)

#: A preparation that has not been answered for so long is asked for again.
_ASK_AGAIN_S: Final = 5.0
#: Of a blob that nothing refers to: an upload may be on its way into SQL, or an event's payload into its queue.
_BLOB_AGE_S: Final = 86_400.0


def prepare(function_uid: str, version: str, revision_id: str) -> None:
    """Ask the workers to make a release launchable."""

    async def run() -> None:
        async with open_parts(ControllerSettings()) as parts:
            if not await parts.asker.ask(function_uid, version, revision_id):
                log.warning("no worker to prepare on; the sweep asks again", extra={"function_uid": function_uid})

    asyncio.run(run())


def sweep() -> None:
    """Ask again for what was not answered, and remove blobs that nothing refers to."""
    asyncio.run(_sweep())


async def _sweep() -> None:
    settings = ControllerSettings()
    async with open_parts(settings) as parts:
        now = datetime.now(UTC)
        for waiting in await parts.core.preparation.list_unprepared():
            if (now - waiting.since).total_seconds() > _ASK_AGAIN_S:
                await parts.asker.ask(waiting.function_uid, waiting.version, waiting.revision_id)
        blobs = open_blob_store(settings.effective_blob_url)
        old = [sha256 async for sha256, age_s in blobs.list() if age_s > _BLOB_AGE_S]
        if old:
            # Queued events last: one that ends meanwhile frees its payload a sweep later.
            needed = await parts.core.preparation.referenced_blobs() | await parts.operations.event_blobs()
            for sha256 in set(old) - needed:
                await blobs.delete(sha256)
