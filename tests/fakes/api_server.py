"""The controller's API on an ephemeral port, on memory ports, for tests that speak real HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import socket
import tempfile
import threading
import zipfile
from collections.abc import AsyncIterator, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import boto3
import uvicorn
from botocore.config import Config
from fastapi import APIRouter, FastAPI

from contract.blobs.memory import MemoryBlobStore
from contract.launch import LaunchSpec
from controller.api.code_links import CodeLinks
from controller.api.identity import CallerReader
from controller.app import Services, create_app
from controller.core import Core, Store, build_core
from controller.domain.function import PreparationFailure
from controller.domain.release import FoundImage, is_by_digest
from controller.images.service import ImageService
from controller.packages.intake import PackageIntake
from controller.packages.ports import ObjectSource
from controller.storage.memory import MemoryStore
from controller.storage.memory_images import MemoryImageStore
from controller.storage.memory_layers import MemoryLayerStore
from tests.fakes.controller_ports import MemoryDirectory, MemoryQueue

Result = TypeVar("Result")
IMAGE_LIMIT_BYTES = 1 << 20


class ApiServer:
    """A running API, with its ports within reach."""

    def __init__(self, store: Store | None = None, *routers: APIRouter, objects: ObjectSource | None = None) -> None:
        self.directory = MemoryDirectory()
        self.queue = MemoryQueue()
        self.blobs = MemoryBlobStore()
        self.core: Core = build_core(
            store=store or MemoryStore(),
            layer_store=MemoryLayerStore(),
            images=ImageService(
                store=MemoryImageStore(),
                blobs=self.blobs,
                spool=Path(tempfile.gettempdir()),
                limit_bytes=IMAGE_LIMIT_BYTES,
            ),
            blobs=self.blobs,
            packages=PackageIntake(self.blobs, objects=objects),
            directory=self.directory,
            queue=self.queue,
            account_concurrency=1000,
        )
        #: What preparations end with; None for success.
        self.failure: PreparationFailure | None = None
        self.prepares_by_itself = True
        self.probes: dict[str, Any] = {}
        self.port = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._app = create_app(
            Services(
                core=self.core,
                callers=CallerReader(default_account="000000000000", default_region="us-east-1"),
                links=CodeLinks(b"secret"),
                blobs=self.blobs,
                probes=self.probes,
                allowed_hosts=("lambda.example.org",),
                allowed_origins=("https://console.example.org",),
                routers=routers,
                lifespan=self._lifespan,
            )
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, *, account: str = "test", region: str = "us-east-1", validates: bool = True) -> Any:
        return boto3.client(
            "lambda",
            endpoint_url=self.url,
            region_name=region,
            aws_access_key_id=account,
            aws_secret_access_key="secret",
            config=Config(parameter_validation=validates, retries={"max_attempts": 1}, read_timeout=20),
        )

    def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    def prepare(self) -> None:
        self.run(self._prepare())

    @contextlib.contextmanager
    def running(self) -> Iterator[ApiServer]:
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        server = uvicorn.Server(uvicorn.Config(self._app, log_level="warning", access_log=False))
        started = threading.Event()

        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            started.set()
            await server.serve(sockets=[listener])

        thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
        thread.start()
        assert started.wait(10)
        try:
            yield self
        finally:
            server.should_exit = True
            thread.join(10)
            listener.close()

    async def _prepare(self) -> None:
        while self.queue.jobs:
            job = self.queue.jobs.pop(0)
            launch = await self.core.preparation.preparation_target(*job)
            assert launch is not None
            found = found_image(launch) if launch.is_image else None
            await self.core.preparation.finish_preparation(*job, self.failure, found)

    async def _prepare_forever(self) -> None:
        while True:
            if self.prepares_by_itself:
                await self._prepare()
            await asyncio.sleep(0.01)

    @contextlib.asynccontextmanager
    async def _lifespan(self, _app: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(self._prepare_forever())
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def found_image(launch: LaunchSpec) -> FoundImage:
    """What a worker answers about an image: the same digest for the same tag."""
    if is_by_digest(launch.image_uri):
        return FoundImage(uri=launch.image_uri, size_bytes=1)
    name, _, _ = launch.image_uri.rpartition(":")
    digest = hashlib.sha256(launch.image_uri.encode()).hexdigest()
    return FoundImage(uri=f"{name}@sha256:{digest}", size_bytes=1)


def zip_of(source: str = "def handler(event, context): return event\n") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("app.py"), source)
    return buffer.getvalue()
