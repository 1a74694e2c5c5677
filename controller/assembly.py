"""Makes the controller's services from its settings: the one place that knows every adapter."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from contract.blobs.open import open_blob_store
from controller.api.code_links import CodeLinks, load_secret
from controller.api.identity import CallerReader
from controller.app import Services
from controller.core import build_core
from controller.resources.functions.ports import FunctionDirectory, PreparationQueue
from controller.settings import ControllerSettings
from controller.storage.migrate import migrate
from controller.storage.sql.engine import Database, create_engine
from controller.storage.sql.store import SqlStore


@asynccontextmanager
async def open_services(
    settings: ControllerSettings, directory: FunctionDirectory, queue: PreparationQueue, *, is_migrating: bool = True
) -> AsyncIterator[Services]:
    """Migrate (unless told not to) and open the database, and wire everything; closed on leaving the block."""
    engine = create_engine(settings.effective_database_url)
    database = Database(engine)
    try:
        if is_migrating:
            await migrate(engine)
        blobs = open_blob_store(settings.effective_blob_url)
        yield Services(
            core=build_core(
                store=SqlStore(database),
                blobs=blobs,
                directory=directory,
                queue=queue,
                account_concurrency=settings.account_concurrency,
            ),
            callers=CallerReader(default_account=settings.default_account, default_region=settings.default_region),
            links=CodeLinks(load_secret(settings.state_dir / "code-links.key")),
            blobs=blobs,
            probes={"database": database.probe},
            allowed_hosts=settings.allowed_hosts,
            allowed_origins=settings.allowed_origins,
        )
    finally:
        await database.close()
