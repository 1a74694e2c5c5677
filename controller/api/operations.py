"""The table of operations: name, method, path, status, as in the service model."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from controller.api.wire import WireModel, body_of

_FUNCTION = "/2015-03-31/functions/{FunctionName}"
_LAYERS = "/2018-10-31/layers"
_LAYER_VERSIONS = f"{_LAYERS}/{{LayerName}}/versions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """Where an operation is served, and the status of its success."""

    name: str
    method: str
    path: str
    status: int = 200


OPERATIONS = {
    operation.name: operation
    for operation in (
        Operation(name="CreateFunction", method="POST", path="/2015-03-31/functions", status=201),
        Operation(name="GetFunction", method="GET", path=_FUNCTION),
        Operation(name="GetFunctionConfiguration", method="GET", path=f"{_FUNCTION}/configuration"),
        Operation(name="ListFunctions", method="GET", path="/2015-03-31/functions"),
        Operation(name="UpdateFunctionCode", method="PUT", path=f"{_FUNCTION}/code"),
        Operation(name="UpdateFunctionConfiguration", method="PUT", path=f"{_FUNCTION}/configuration"),
        Operation(name="DeleteFunction", method="DELETE", path=_FUNCTION),
        Operation(name="PublishVersion", method="POST", path=f"{_FUNCTION}/versions", status=201),
        Operation(name="ListVersionsByFunction", method="GET", path=f"{_FUNCTION}/versions"),
        Operation(name="PutFunctionConcurrency", method="PUT", path="/2017-10-31/functions/{FunctionName}/concurrency"),
        Operation(name="GetFunctionConcurrency", method="GET", path="/2019-09-30/functions/{FunctionName}/concurrency"),
        Operation(
            name="DeleteFunctionConcurrency",
            method="DELETE",
            path="/2017-10-31/functions/{FunctionName}/concurrency",
            status=204,
        ),
        Operation(name="GetAccountSettings", method="GET", path="/2016-08-19/account-settings"),
        Operation(name="PublishLayerVersion", method="POST", path=_LAYER_VERSIONS, status=201),
        Operation(name="GetLayerVersion", method="GET", path=f"{_LAYER_VERSIONS}/{{VersionNumber}}"),
        # Paths are matched without their query: the route of ListLayers hands on to this one.
        Operation(name="GetLayerVersionByArn", method="GET", path=f"{_LAYERS}?find=LayerVersion"),
        Operation(name="ListLayers", method="GET", path=_LAYERS),
        Operation(name="ListLayerVersions", method="GET", path=_LAYER_VERSIONS),
        Operation(name="DeleteLayerVersion", method="DELETE", path=f"{_LAYER_VERSIONS}/{{VersionNumber}}", status=204),
    )
}

Route = Callable[..., Awaitable[Response]]


def serve(router: APIRouter, name: str, body: type[WireModel] | None = None) -> Callable[[Route], Route]:
    """Mount the decorated route where the table says; `body` documents what it reads."""
    operation = OPERATIONS[name]

    def mount(route: Route) -> Route:
        extra: dict[str, Any] | None = body_of(body) if body is not None else None
        router.add_api_route(
            operation.path,
            route,
            methods=[operation.method],
            status_code=operation.status,
            operation_id=name,
            name=name,
            response_model=None,
            openapi_extra=extra,
        )
        return route

    return mount
