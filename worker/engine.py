"""The only place that makes a Docker client, and the threads in which its blocking calls run."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

import docker
import docker.errors

P = ParamSpec("P")
T = TypeVar("T")

#: Longer than any single engine call that the hot path makes; image builds and pulls stream, so it bounds silence only.
DEFAULT_TIMEOUT_S = 60
#: Calls to the engine in flight. More threads than this only queue inside the daemon, which serialises most work.
DEFAULT_THREADS = 16


class EngineUnavailableError(Exception):
    """No Docker Engine answers."""


def connect(timeout_s: int = DEFAULT_TIMEOUT_S, max_connections: int = DEFAULT_THREADS) -> Any:
    """Return a `docker.DockerClient` for the engine named by the usual DOCKER_* variables (default: the local socket).

    Blocking; the engine answers a version request before this returns. The client may be used from several threads:
    it keeps `max_connections` connections, and every call waits at most `timeout_s` seconds for each read.

    Raises:
        EngineUnavailableError: nothing answers, or what answers is no Docker Engine.
    """
    try:
        return docker.from_env(version="auto", timeout=timeout_s, max_pool_size=max_connections)
    except (docker.errors.DockerException, OSError) as error:
        raise EngineUnavailableError(
            f"no Docker Engine answers: {error}. Start one (for example: systemctl start docker), or point DOCKER_HOST "
            f"at one, and check that this user may open its socket"
        ) from error


class DockerEngine:
    """A Docker client together with the threads that wait for it.

    The threads are apart from asyncio's default executor, so that file work never waits behind a slow engine.
    Use as a context manager, or call `close`.
    """

    def __init__(self, client: Any, threads: int = DEFAULT_THREADS) -> None:
        #: The SDK's client (untyped, as the SDK is). Call it only from `call`, or from code that may block.
        self.client = client
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="docker")

    @classmethod
    def connected(cls, timeout_s: int = DEFAULT_TIMEOUT_S, threads: int = DEFAULT_THREADS) -> Self:
        """Connect as `connect` does, and wrap the client. Blocking."""
        return cls(connect(timeout_s, threads), threads)

    async def call(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the blocking `fn` in one of the engine's threads and return its result.

        Cancelling stops the waiting, not the call: whoever creates something must be able to find it again by label.
        """
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(fn, *args, **kwargs))

    def close(self) -> None:
        """Close the connections; calls in progress are not waited for. Idempotent."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self.client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
