"""What nothing refers to any more: blobs in the store, and heads in Redis of functions that have no row."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from contract.blobs.store import BlobStore
from contract.bus.operations import Operations
from controller.background.references import BlobReferences
from controller.resources.functions.preparation import PreparationService
from controller.storage.sql.engine import BUSY_TIMEOUT_MS

log = logging.getLogger(__name__)

#: Of a blob that nothing refers to: an upload may be on its way into SQL, or an event's payload into its queue.
BLOB_AGE_S: Final = 86_400.0
#: Between two looks into SQL: from a creation's last look at what it names to its row, it takes less, even where the
#: row's transaction waits for others.
SECOND_LOOK_S: Final = 2 * BUSY_TIMEOUT_MS / 1000
#: With a database that has lost everything, more than so many functions are not believed to have been deleted.
_FEW: Final = 3


async def collect_blobs(
    blobs: BlobStore, references: BlobReferences, operations: Operations, *, second_look_s: float = SECOND_LOOK_S
) -> int:
    """Remove old blobs that nothing names: no release, layer, pushed image or queued event. Returns how many.

    What a function is being made of may be forgotten by everybody else just then, so whatever nobody names must not
    be named a while later either.
    """
    old = {sha256 async for sha256, age_s in blobs.list() if age_s > BLOB_AGE_S}
    old -= await _needed(references, operations) if old else set()
    if not old:
        return 0
    await asyncio.sleep(second_look_s)
    old -= await _needed(references, operations)
    removed = 0
    for sha256 in old:
        # What has been put again since it was listed may have a reference that was not there when we looked.
        if await blobs.delete_if_older(sha256, BLOB_AGE_S):
            removed += 1
    return removed


async def _needed(references: BlobReferences, operations: Operations) -> set[str]:
    # Queued events last: one that ends meanwhile frees its payload a collection later.
    return await references.referenced_blobs() | await operations.event_blobs()


async def retire_orphans(
    preparation: PreparationService, operations: Operations, *, second_look_s: float = SECOND_LOOK_S
) -> int:
    """Retire functions that admission knows but SQL has no row of. Returns how many.

    They were deleted while Redis was away, and could be invoked still. Retiring can't be undone, so Redis is read
    before SQL, and a row must be missing twice.
    """
    orphans = await operations.published_functions()
    stored = await preparation.stored_uids() if orphans else set()
    orphans -= stored
    if not orphans:
        return 0
    if not stored and len(orphans) > _FEW:
        log.error("no function of this cell is in the database; is it the right one?", extra={"known": len(orphans)})
        return 0
    await asyncio.sleep(second_look_s)
    orphans -= await preparation.stored_uids()
    for uid in sorted(orphans):
        events = await operations.retire_function(uid)
        log.warning("retired a function that has no row", extra={"function_uid": uid, "events": events})
    return len(orphans)
