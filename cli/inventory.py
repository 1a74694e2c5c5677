"""Which functions there are: list and delete."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from cli import output
from cli.client import aws_errors, lambda_client


def print_functions(endpoint: str, region: str | None, *, is_json: bool) -> None:
    """Print every function, by name; as JSON, one configuration a line, as AWS writes it."""
    client = lambda_client(endpoint, region=region)
    with aws_errors(endpoint):
        pages = client.get_paginator("list_functions").paginate()
        functions: list[dict[str, Any]] = [function for page in pages for function in page.get("Functions", [])]
    functions.sort(key=lambda function: str(function.get("FunctionName")))
    if is_json:
        for function in functions:
            output.machine(function)
        return
    if not functions:
        output.note("No functions yet. Make one with: lambdock deploy DIR")
        return
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="bold")
    for column in ("NAME", "RUNTIME", "MEMORY", "TIMEOUT", "MODIFIED"):
        table.add_column(column)
    for function in functions:
        table.add_row(*(Text(output.printable(cell)) for cell in _row(function)))
    output.console().print(table)


def delete_function(name: str, endpoint: str, region: str | None, *, qualifier: str | None) -> None:
    """Delete a function or one version of it. Raises: `CliError` with AWS's words, also when there is none."""
    client = lambda_client(endpoint, region=region)
    with aws_errors(endpoint):
        client.delete_function(FunctionName=name, **({"Qualifier": qualifier} if qualifier else {}))
    output.say(f"Deleted {name}{f':{qualifier}' if qualifier else ''}.")


def _row(function: dict[str, Any]) -> tuple[str, ...]:
    return (
        str(function.get("FunctionName", "")),
        str(function.get("Runtime") or function.get("PackageType", "")),
        f"{function.get('MemorySize', '?')} MB",
        f"{function.get('Timeout', '?')} s",
        str(function.get("LastModified", ""))[:19].replace("T", " "),
    )
