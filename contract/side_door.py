"""The side door: what a worker and a controller agree on so that functions may call the Lambda API.

A function speaks to a listener of its worker; the worker passes on what `api_target` accepts to the transfer server of
a controller, below `PREFIX`, proves by the cell's token that it is a worker, and says which function calls.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, unquote_to_bytes

#: The part of the transfer server's paths below which the API lies. No token of the transfer channel contains a slash.
PREFIX: Final = "/lambda"
#: The cell's token. Without it the door stays closed.
TOKEN_HEADER: Final = "x-lambdock-token"  # noqa: S105 - a name
#: The ARN of the function that calls, whose account is the request's, whatever key it is signed with.
FUNCTION_HEADER: Final = "x-lambdock-function"
#: The status by which the door answers a wrong token ("misdirected"): it is of another cell, or of a lost Redis.
CLOSED: Final = 421
#: What the platform's own headers begin with; nobody else's are passed on.
OWN_HEADERS: Final = b"x-lambdock-"

#: Every path of the Lambda API begins with the date of its version; none of the platform's own does.
_VERSION = re.compile(rb"20[0-9]{2}-[0-9]{2}-[0-9]{2}")
_TARGET = re.compile(rb"/[!-~]*")
#: In a decoded segment: what could begin another segment, be decoded again, or end a line.
_FORBIDDEN = re.compile(rb"[/\\%\x00-\x1f\x7f]")


def api_target(target: bytes) -> str | None:
    """Return a request's target as it is passed on, or None for whatever is no path of the Lambda API. Pure.

    What it returns has one reading only: whoever decodes it, once or twice, with or without removing dot segments,
    comes to the same path.
    """
    path, mark, query = target.partition(b"?")
    if not _TARGET.fullmatch(target) or b"#" in target:
        return None
    segments = [unquote_to_bytes(segment) for segment in path[1:].split(b"/")]
    if len(segments) > 1 and not segments[-1]:
        # Clients with older service models end some paths so.
        segments.pop()
    if not _VERSION.fullmatch(segments[0]) or len(segments) < 2:
        return None
    if any(not segment or segment in (b".", b"..") or _FORBIDDEN.search(segment) for segment in segments):
        return None
    return "/" + "/".join(quote(segment, safe="") for segment in segments) + (mark + query).decode("ascii")
