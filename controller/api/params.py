"""Reads what requests carry outside their bodies: names, qualifiers, page sizes and markers."""

from __future__ import annotations

import base64
import binascii

import orjson
from starlette.requests import Request

from controller.api.identity import Caller
from controller.domain import errors
from controller.domain.arn import FunctionIdentifier, parse_function_name, parse_unqualified_name
from controller.domain.layer import NUMBER_MAX
from controller.domain.validation import check_members


def function_of(request: Request, caller: Caller) -> FunctionIdentifier:
    """Return the function that path and query name, with its qualifier. Raises what `parse_function_name` does."""
    raw: str = request.path_params["FunctionName"]
    qualifier = request.query_params.get("Qualifier")
    return parse_function_name(raw, account=caller.account, region=caller.region, qualifier=qualifier)


def unqualified_function_of(request: Request, caller: Caller) -> FunctionIdentifier:
    """Return the function that the path names, for an operation that versions and aliases do not support."""
    raw: str = request.path_params["FunctionName"]
    return parse_unqualified_name(raw, account=caller.account, region=caller.region)


def page_limit_of(request: Request) -> int | None:
    """Return MaxItems. Raises ValidationFailedError outside 1-10000."""
    raw = request.query_params.get("MaxItems")
    if raw is None:
        return None
    try:
        limit = int(raw)
    except ValueError as error:
        raise errors.SerializationError("STRING_VALUE can not be converted to an Integer") from error
    check_members({"MaxItems": limit})
    return limit


def marker_of(request: Request) -> tuple[str, int] | None:
    """Return where the page begins: after this (name, version number). Raises InvalidParameterValueError."""
    raw = request.query_params.get("Marker")
    if not raw:
        return None
    try:
        name, number = orjson.loads(base64.urlsafe_b64decode(raw.encode()))
    except (ValueError, TypeError, binascii.Error) as error:
        raise _not_ours(raw) from error
    # What none of our markers has: databases refuse to compare some of it.
    if type(name) is not str or type(number) is not int or "\0" in name or not 0 <= number <= NUMBER_MAX:
        raise _not_ours(raw)
    return name, number


def _not_ours(raw: str) -> errors.InvalidParameterValueError:
    return errors.InvalidParameterValueError(
        f"Invalid Marker {raw!r}: pass the NextMarker of the page before, unchanged."
    )


def marker(name: str, number: int = 0) -> str:
    """Return the opaque marker of the page that follows (name, version number)."""
    return base64.urlsafe_b64encode(orjson.dumps([name, number])).decode()
