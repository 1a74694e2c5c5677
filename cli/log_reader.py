"""A function's log, page by page, and onwards as it grows."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import httpx
from rich.text import Text

from cli import http, output
from cli.client import signature
from cli.errors import CliError, UsageError

#: How often `--follow` asks for more.
POLL_S = 0.5
#: The platform is restarted now and then; a follower waits for it this long.
FOLLOW_PATIENCE_S = 60

_UNITS_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


@dataclass(frozen=True, slots=True, kw_only=True)
class LogQuery:
    """Which events to begin with. `since_ms` is an instant, in milliseconds of the epoch."""

    name: str
    limit: int
    since_ms: int | None = None

    @classmethod
    def of(cls, name: str, *, since: str | None, limit: int) -> LogQuery:
        """Make a query from what the user wrote. Raises: `UsageError` for an age that is none."""
        age_ms = None if since is None else parse_age_ms(since)
        now_ms = int(datetime.now(UTC).timestamp() * 1000)
        return cls(name=name, limit=limit, since_ms=None if age_ms is None else now_ms - age_ms)

    def params(self, cursor: str | None) -> dict[str, str]:
        """Return the query string: a cursor already stands behind everything older than `since_ms`."""
        params = {"limit": str(self.limit)}
        if cursor is not None:
            params["cursor"] = cursor
        elif self.since_ms is not None:
            params["since_ms"] = str(self.since_ms)
        return params


def parse_age_ms(written: str) -> int:
    """Return an age such as `90s`, `10m`, `2h` or `1d` in milliseconds. Raises: `UsageError`."""
    match = re.fullmatch(r"(\d{1,9})([smhd])", written.strip())
    if match is None:
        raise UsageError(f"--since takes a number and a unit, such as 30s, 10m, 2h or 1d; not {written!r}")
    return int(match[1]) * _UNITS_MS[match[2]]


def print_logs(query: LogQuery, endpoint: str, *, is_following: bool, is_json: bool) -> None:
    """Print the events that `query` names, and with `is_following` what comes after, until interrupted.

    Without following, at most `query.limit` events. Raises: `CliError` when the platform refuses or is gone.
    """
    cursor: str | None = None
    last_answer_at = time.monotonic()
    with http.client() as client:
        while True:
            try:
                events, next_cursor = _page(client, endpoint, query, cursor)
                last_answer_at = time.monotonic()
            except http.Unreachable:
                # Before the first page there is nothing to go on with: tell at once.
                if not is_following or cursor is None or time.monotonic() - last_answer_at > FOLLOW_PATIENCE_S:
                    raise
                events, next_cursor = [], cursor
            for event in events:
                _print_event(event, is_json=is_json)
            if not is_following:
                return
            has_moved = bool(events) and next_cursor != cursor
            cursor = next_cursor
            if not has_moved:
                time.sleep(POLL_S)


def _page(
    client: httpx.Client, endpoint: str, query: LogQuery, cursor: str | None
) -> tuple[list[dict[str, Any]], str | None]:
    path = f"/_lambdock/logs/{quote(query.name, safe='')}"
    # Names account and region, as the other commands do.
    headers = signature("GET", endpoint + path)
    response = http.get(client, endpoint, path, query.params(cursor), headers=headers)
    if response.status_code >= 500:
        raise http.Unreachable(f"{endpoint} answers with HTTP {response.status_code}")
    body = http.json_object(response)
    if response.status_code != 200:
        message = body.get("message") or body.get("Message") or f"HTTP {response.status_code}"
        code = body.get("Code") or response.headers.get("x-amzn-errortype", "").split(":")[0]
        raise CliError(f"{code}: {message}" if code else str(message))
    events = body.get("events")
    next_cursor = body.get("cursor")
    return (events if isinstance(events, list) else []), (next_cursor if isinstance(next_cursor, str) else cursor)


def _print_event(event: dict[str, Any], *, is_json: bool) -> None:
    if is_json:
        output.machine(event)
        return
    # Runtime clients join the lines of one message by carriage returns, and indent by no-break spaces.
    message = str(event.get("message", "")).strip("\r\n").replace("\r", "\n").replace("\xa0", " ")
    at = datetime.fromtimestamp(float(event.get("timestamp", 0)) / 1000, UTC)
    style = "dim" if message.startswith(("START RequestId", "END RequestId", "REPORT RequestId")) else ""
    line = Text.assemble((f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d}Z ", "cyan dim"))
    line.append(output.printable(message), style=style)
    output.console().print(line)
