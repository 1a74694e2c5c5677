"""`/_lambdock/images`: push, list and remove container images. No API of AWS's; errors have the shape of Lambda's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

from fastapi import APIRouter
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from contract.images import split_pushed_uri
from controller.api.identity import CallerReader
from controller.api.params import page_limit_of
from controller.api.wire import json_response
from controller.domain.errors import InvalidParameterValueError
from controller.images.ports import PushedImage
from controller.images.service import ImageService

IMAGES_PATH: Final = "/_lambdock/images"
_PAGE: Final = 50


def images_router(service: ImageService, callers: CallerReader) -> APIRouter:
    """Return the router. POST takes a `docker save` archive as its body; query: `name`, `image` (one of several)."""

    async def push(request: Request) -> Response:
        query = request.query_params
        image = await service.push(
            callers.read(request).account, _body(request), name=query.get("name"), wanted=query.get("image")
        )
        return json_response(_shown(image), 201)

    async def list_images(request: Request) -> Response:
        limit, after = min(page_limit_of(request) or _PAGE, _PAGE), _after(request)
        found = await service.list(callers.read(request).account, after=after, limit=limit + 1)
        body: dict[str, Any] = {"Images": [_shown(image) for image in found[:limit]]}
        if len(found) > limit:
            body["NextMarker"] = found[limit - 1].uri
        return json_response(body)

    async def remove(request: Request) -> Response:
        uri = request.query_params.get("ImageUri")
        if not uri:
            raise InvalidParameterValueError("ImageUri is missing: pass that of an image of GET /_lambdock/images.")
        await service.remove(callers.read(request).account, uri)
        return Response(status_code=204)

    router = APIRouter(tags=["images"])
    for method, route in (("POST", push), ("GET", list_images), ("DELETE", remove)):
        router.add_api_route(IMAGES_PATH, route, methods=[method], response_model=None)
    return router


def _after(request: Request) -> tuple[str, str]:
    raw = request.query_params.get("Marker")
    if not raw:
        return "", ""
    after = split_pushed_uri(raw)
    if after is None:
        raise InvalidParameterValueError(f"Invalid Marker {raw[:300]!r}: pass the NextMarker of the page before.")
    return after


async def _body(request: Request) -> AsyncIterator[bytes]:
    try:
        async for piece in request.stream():
            yield piece
    except ClientDisconnect as error:
        # Nobody hears this; it ends the push without a traceback in the log.
        raise InvalidParameterValueError("The connection ended before the archive did.") from error


def _shown(image: PushedImage) -> dict[str, Any]:
    return {
        "ImageUri": image.uri,
        "Name": image.name,
        "ImageId": f"sha256:{image.config_sha256}",
        "Architecture": image.architecture,
        "SizeBytes": image.size_bytes,
        "PushedAt": image.pushed_at.isoformat(timespec="milliseconds"),
    }
