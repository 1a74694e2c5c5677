"""`lambdock serve` from options to exit code."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from cli import output
from cli.health import HEALTH_PATH, has_controller, has_worker
from cli.serve.checks import bind, parse_listen, require_docker, require_loopback, require_root, url_of
from cli.serve.events import Listener
from cli.serve.redis_server import find_program, redis_part, redis_url
from cli.serve.state import cell_id, exclusive, socket_path
from cli.serve.supervisor import Part, Probe, Supervisor
from cli.serve.terminal import JsonTerminal, LoggingListener, PrettyTerminal
from cli.serve.tree import Plan, Probes, platform_parts, worker_places
from cli.settings import ServeSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """The command's options; None: take what the environment says."""

    state_dir: Path | None
    listen: str | None
    workers: int | None
    controllers: int | None
    is_verbose: bool
    has_json_logs: bool


def run(options: ServeOptions) -> int:
    """Run the platform until it is told to stop; return 0, or 1 when it did not start.

    Raises: `CliError` before anything is started, when it could not work.
    """
    settings = ServeSettings.read()
    require_root(os.geteuid())
    host, port = parse_listen(options.listen or settings.listen)
    require_loopback(host)
    state_dir = (options.state_dir or settings.state_dir).expanduser().absolute()
    with exclusive(state_dir), bind(host, port) as listener:
        asyncio.run(require_docker(settings.docker_host))
        endpoint = url_of(listener)
        socket = socket_path(state_dir, settings.runtime_dir)
        redis = (
            None if settings.redis_url else redis_part(find_program(settings.search_path), state_dir / "redis", socket)
        )
        bound_port = listener.getsockname()[1]
        plan = Plan(
            state_dir=state_dir,
            cell=cell_id(state_dir, settings.cell),
            listen=f"[{host}]:{bound_port}" if ":" in host else f"{host}:{bound_port}",
            listen_fd=listener.fileno(),
            redis_url=settings.redis_url or redis_url(socket),
            blob_url=settings.blob_url,
            workers=worker_places(
                options.workers or settings.workers, settings.worker_id or platform.node() or "worker", state_dir
            ),
            controllers=options.controllers or settings.controllers,
            inherited=settings.inherited,
        )
        shown = _terminal(options, endpoint, state_dir / "log")
        try:
            is_ok = asyncio.run(_supervise(plan, redis, endpoint, LoggingListener(state_dir / "log", shown)))
        finally:
            if socket.parent.parent == settings.runtime_dir:
                shutil.rmtree(socket.parent, ignore_errors=True)
    return 0 if is_ok else 1


def _terminal(options: ServeOptions, endpoint: str, log_dir: Path) -> Listener:
    if options.has_json_logs:
        return JsonTerminal(output.machine, endpoint=endpoint)
    return PrettyTerminal(output.console(), endpoint=endpoint, log_dir=log_dir, is_verbose=options.is_verbose)


async def _supervise(plan: Plan, redis: Part | None, endpoint: str, listener: LoggingListener) -> bool:
    # Verification is of no use to plain HTTP, and its set-up is slow; proxies must not see our own health.
    async with httpx.AsyncClient(base_url=endpoint, timeout=2.0, trust_env=False) as client:
        parts = platform_parts(plan, redis, _probes(client))
        supervisor = Supervisor(parts, listener)
        loop = asyncio.get_running_loop()
        for signal_number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(signal_number, supervisor.stop)
        try:
            return await supervisor.run()
        finally:
            listener.close()


def _probes(client: httpx.AsyncClient) -> Probes:
    async def page() -> dict[str, Any]:
        """Empty when nothing answers. Any controller may, for all of them."""
        with suppress(httpx.HTTPError, ValueError):
            body = (await client.get(HEALTH_PATH)).json()
            return body if isinstance(body, dict) else {}
        return {}

    async def controller(pid: int) -> bool:
        # Whether the rest is well is not the controller's readiness.
        body = await page()
        return bool(body) and has_controller(body, platform.node(), pid)

    def worker(worker_id: str) -> Probe:
        async def probe(_: int) -> bool:
            return has_worker(await page(), worker_id)

        return probe

    return Probes(controller=controller, worker=worker)
