"""Tells whether the controller can serve, part by part."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from controller.api.wire import json_response

PROBE_DEADLINE_S = 3.0

#: Returns when the part works, raises when it does not.
Probe = Callable[[], Awaitable[None]]
#: Returns what is known of each worker, or controller, that serves, by its name.
Members = Callable[[], Awaitable[dict[str, Any]]]

_log = logging.getLogger(__name__)


def health_router(
    probes: Mapping[str, Probe], workers: Members | None = None, controllers: Members | None = None
) -> APIRouter:
    """Serve `/health` and its alias that tools for emulators look for: 200 when every part works, else 503."""
    router = APIRouter(tags=["health"])

    async def health() -> Response:
        states = await asyncio.gather(*(_probe(name, probe) for name, probe in probes.items()))
        parts = dict(zip(probes, states, strict=True))
        is_well = all(state == "ok" for state in states)
        body: dict[str, Any] = {"status": "ok" if is_well else "unavailable", "parts": parts}
        if controllers is not None:
            body["controllers"] = await _members("controllers", controllers)
        if workers is not None:
            body["workers"] = await _members("workers", workers)
            if is_well and not body["workers"]:
                # Not 503: the API itself serves, and a worker may wait for just that before it starts.
                body["status"] = "no workers"
        return json_response(body, 200 if is_well else 503)

    router.add_api_route("/health", health, methods=["GET"], response_model=None)
    router.add_api_route("/_localstack/health", health, methods=["GET"], response_model=None, include_in_schema=False)
    return router


async def _members(what: str, ask: Members) -> dict[str, Any]:
    try:
        async with asyncio.timeout(PROBE_DEADLINE_S):
            return await ask()
    except Exception as error:  # noqa: BLE001 - the probes tell what is wrong; health itself must answer
        _log.warning("members of the cell are not known", extra={"members": what, "error": str(error)})
        return {}


async def _probe(name: str, probe: Probe) -> str:
    try:
        async with asyncio.timeout(PROBE_DEADLINE_S):
            await probe()
    except TimeoutError:
        return f"no answer within {PROBE_DEADLINE_S:g} s"
    except Exception as error:  # noqa: BLE001 - whatever a part raises is its state, told to the operator
        _log.warning("health probe failed", extra={"part": name, "error": str(error)})
        return f"{type(error).__name__}: {error}"
    return "ok"
