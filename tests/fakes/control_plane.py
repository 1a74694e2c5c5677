"""The services of the control plane on memory, with shorthands for one function `f`."""

from __future__ import annotations

from pathlib import Path

from contract.blobs.memory import MemoryBlobStore
from controller.core import build_core
from controller.domain.arn import FunctionIdentifier
from controller.domain.function import Function, FunctionVersion, PreparationFailure
from controller.domain.release import FoundImage, Settings
from controller.images.service import ImageService
from controller.packages.intake import PackageIntake
from controller.packages.ports import UploadedZip
from controller.resources.functions.code import CodeSource, ImageSource
from controller.resources.functions.service import NewCode, NewFunction
from controller.storage.memory import MemoryStore
from controller.storage.memory_images import MemoryImageStore
from controller.storage.memory_layers import MemoryLayerStore
from tests.fakes.api_server import zip_of
from tests.fakes.controller_ports import MemoryDirectory, MemoryQueue, TickingStamps

ACCOUNT, REGION = "000000000000", "us-east-1"
NAME = FunctionIdentifier(name="f")
ROLE = "arn:aws:iam::000000000000:role/r"


class ControlPlane:
    """Preparations end when a test says so."""

    def __init__(self) -> None:
        self.store, self.directory, self.queue = MemoryStore(), MemoryDirectory(), MemoryQueue()
        self.layers, self.images, self.blobs = MemoryLayerStore(), MemoryImageStore(), MemoryBlobStore()
        self.stamps = TickingStamps()
        self.core = build_core(
            store=self.store,
            layer_store=self.layers,
            images=ImageService(store=self.images, blobs=self.blobs, spool=Path("/nonexistent"), limit_bytes=1),
            blobs=self.blobs,
            packages=PackageIntake(self.blobs),
            directory=self.directory,
            queue=self.queue,
            account_concurrency=1000,
            stamps=self.stamps,
        )

    async def create(self, code: CodeSource | None = None, *, publish: bool = False) -> None:
        is_image = isinstance(code, ImageSource)
        settings = Settings(
            runtime="" if is_image else "python3.13", role=ROLE, handler="" if is_image else "app.handler"
        )
        await self.core.functions.create(
            NewFunction(
                account=ACCOUNT,
                region=REGION,
                name="f",
                settings=settings,
                code=code or UploadedZip(data=zip_of()),
                tags={},
                publish=publish,
            )
        )

    async def update(self, code: CodeSource | None = None, *, publish: bool = False) -> None:
        new = NewCode(code=code or UploadedZip(data=zip_of("x = 1\n")), publish=publish)
        await self.core.functions.update_code(ACCOUNT, REGION, NAME, new)

    async def finish(self, failure: PreparationFailure | None = None, found: FoundImage | None = None) -> None:
        while self.queue.jobs:
            await self.core.preparation.finish_preparation(*self.queue.jobs.pop(0), failure, found)

    async def function(self) -> Function:
        found = await self.store.get(ACCOUNT, REGION, "f")
        assert found is not None
        return found

    async def version(self, number: str) -> FunctionVersion:
        found = await self.store.get_version((await self.function()).uid, number)
        assert found is not None
        return found

    async def generation(self) -> int:
        return self.directory.heads[(await self.function()).uid].generation
