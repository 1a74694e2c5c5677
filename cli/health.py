"""What the platform says about itself, for people and for `lambdock serve`."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from cli import http, output

HEALTH_PATH = "/health"


def print_health(endpoint: str, *, is_json: bool) -> bool:
    """Print the platform's health; return whether it is well. Raises: `CliError` when nothing answers."""
    with http.client() as client:
        response = http.get(client, endpoint, HEALTH_PATH)
    body = http.json_object(response)
    is_well = response.status_code == 200 and body.get("status", "ok") == "ok"
    if is_json:
        output.machine(body)
        return is_well
    status = body.get("status", f"HTTP {response.status_code}")
    output.say(
        f"{endpoint} is {'well' if is_well else f'not well: {status}'}",
        "green" if is_well else "red",
    )
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in _flat(body):
        table.add_row(Text(name, style="dim"), Text(output.printable(value)))
    output.console().print(table)
    return is_well


def worker_count(body: dict[str, Any]) -> int:
    """Return how many live workers a health page tells of, as a list, a table or a number; 0 when it tells none."""
    workers = body.get("workers", 0)
    if isinstance(workers, bool):
        return 0
    if isinstance(workers, int):
        return workers
    return len(workers) if isinstance(workers, list | dict) else 0


def has_workers(status: int, body: dict[str, Any], wanted: int) -> bool:
    """Tell whether `wanted` workers are live: by their count, else, where the page has none, by the page's status."""
    return worker_count(body) >= wanted if "workers" in body else status == 200


def _flat(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [row for key, inner in value.items() for row in _flat(inner, f"{prefix}.{key}" if prefix else str(key))]
    if isinstance(value, list) and any(isinstance(inner, dict | list) for inner in value):
        return [row for index, inner in enumerate(value) for row in _flat(inner, f"{prefix}[{index}]")]
    if isinstance(value, list):
        return [(prefix, ", ".join(map(str, value)))]
    return [(prefix, "yes" if value is True else "no" if value is False else str(value))]
