"""The jobs that RQ runs. All are idempotent; the sweep repeats what a crash has left half done."""

from __future__ import annotations

import asyncio
import logging
import threading
from datetime import UTC, datetime
from typing import Final

from controller.background.collecting import collect_blobs, retire_orphans
from controller.process import open_parts
from controller.settings import ControllerSettings

log = logging.getLogger(__name__)

#: A preparation that has not been answered for so long is asked for again.
_ASK_AGAIN_S: Final = 5.0
#: Held by a thread that collects.
_collecting: Final = threading.Lock()


def prepare(function_uid: str, version: str, revision_id: str) -> None:
    """Ask the workers to make a release launchable."""

    async def run() -> None:
        async with open_parts(ControllerSettings()) as parts:
            if not await parts.asker.ask(function_uid, version, revision_id):
                log.warning("no worker to prepare on; the sweep asks again", extra={"function_uid": function_uid})

    asyncio.run(run())


def sweep() -> None:
    """Ask again for what was not answered."""

    async def run() -> None:
        async with open_parts(ControllerSettings()) as parts:
            now = datetime.now(UTC)
            for waiting in await parts.core.preparation.list_unprepared():
                if (now - waiting.since).total_seconds() > _ASK_AGAIN_S:
                    await parts.asker.ask(waiting.function_uid, waiting.version, waiting.revision_id)

    asyncio.run(run())


def collect() -> None:
    """Begin a collection, unless one is under way in this process.

    In a thread, unlike other jobs: it takes seconds at least, many minutes with a large bucket, and preparations wait
    in the same queue. Also, the queue ends what takes it more than three minutes.
    """
    if _collecting.acquire(blocking=False):
        threading.Thread(target=_collect, name="collection", daemon=True).start()


def _collect() -> None:
    try:
        asyncio.run(_collection())
    except Exception:
        log.exception("a collection failed; the next one begins from the start")
    finally:
        _collecting.release()


async def _collection() -> None:
    """Retire functions that were deleted without Redis hearing of it, and remove blobs that nothing refers to."""
    async with open_parts(ControllerSettings()) as parts:
        await retire_orphans(parts.core.preparation, parts.operations)
        await collect_blobs(parts.services.blobs, parts.core.references, parts.operations)
