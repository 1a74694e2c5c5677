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


def has_worker(body: dict[str, Any], worker_id: str) -> bool:
    """Tell whether a health page tells of a life of this worker."""
    workers = body.get("workers")
    return isinstance(workers, dict) and any(name.rpartition("@")[0] == worker_id for name in workers)


def has_controller(body: dict[str, Any], host: str, pid: int) -> bool:
    """Tell whether a health page tells of the controller that is this process of this host.

    Controllers know of each other by Redis: without it, any answer counts.
    """
    parts, controllers = body.get("parts"), body.get("controllers")
    if isinstance(parts, dict) and parts.get("redis", "ok") != "ok":
        return True
    return isinstance(controllers, dict) and {"host": host, "pid": pid} in controllers.values()


def _flat(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [row for key, inner in value.items() for row in _flat(inner, f"{prefix}.{key}" if prefix else str(key))]
    if isinstance(value, list) and any(isinstance(inner, dict | list) for inner in value):
        return [row for index, inner in enumerate(value) for row in _flat(inner, f"{prefix}[{index}]")]
    if isinstance(value, list):
        return [(prefix, ", ".join(map(str, value)))]
    return [(prefix, "yes" if value is True else "no" if value is False else str(value))]
