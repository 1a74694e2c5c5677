"""Makes the controller's services from its settings: the one place that knows every adapter."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from contract.blobs.open import open_blob_store
from controller.api.code_links import CodeLinks, load_secret
from controller.api.identity import CallerReader
from controller.app import Services
from controller.core import build_core
from controller.images.service import ImageService
from controller.packages.intake import PackageIntake
from controller.packages.s3 import S3Endpoint, S3Objects
from controller.resources.functions.ports import FunctionDirectory, PreparationQueue
from controller.settings import ControllerSettings
from controller.storage.migrate import migrate
from controller.storage.sql.engine import Database, create_engine
from controller.storage.sql.images import SqlImageStore
from controller.storage.sql.layers import SqlLayerStore
from controller.storage.sql.store import SqlStore


@asynccontextmanager
async def open_services(
    settings: ControllerSettings, directory: FunctionDirectory, queue: PreparationQueue, *, is_migrating: bool = True
) -> AsyncIterator[Services]:
    """Migrate (unless told not to) and open the database, and wire everything; closed on leaving the block."""
    engine = create_engine(settings.effective_database_url)
    database = Database(engine)
    objects = _bucket_server(settings)
    try:
        if is_migrating:
            await migrate(engine)
        blobs = open_blob_store(settings.effective_blob_url)
        spool = settings.state_dir / "spool"
        yield Services(
            core=build_core(
                store=SqlStore(database),
                layer_store=SqlLayerStore(database),
                images=ImageService(
                    store=SqlImageStore(database),
                    blobs=blobs,
                    spool=spool,
                    limit_bytes=settings.image_limit_mb * 2**20,
                ),
                blobs=blobs,
                packages=PackageIntake(blobs, objects=objects, scratch=spool),
                directory=directory,
                queue=queue,
                account_concurrency=settings.account_concurrency,
            ),
            callers=CallerReader(default_account=settings.default_account, default_region=settings.default_region),
            links=CodeLinks(load_secret(settings.state_dir / "code-links.key")),
            blobs=blobs,
            scratch=spool,
            probes={"database": database.probe},
            allowed_hosts=settings.allowed_hosts,
            allowed_origins=settings.allowed_origins,
        )
    finally:
        if objects is not None:
            objects.close()
        await database.close()


def _bucket_server(settings: ControllerSettings) -> S3Objects | None:
    if not settings.s3_endpoint:
        return None
    return S3Objects(
        S3Endpoint(
            url=settings.s3_endpoint,
            region=settings.s3_region,
            access_key=settings.s3_access_key,
            secret_key=settings.s3_secret_key.get_secret_value(),
        )
    )
