"""`docs/generated/settings.md`, made from the settings classes: names, defaults, rules and the comments beside them."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt
from pydantic import AliasChoices, SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from controller.settings import ControllerSettings
from worker.settings import WorkerSettings

PAGE = Path(__file__).resolve().parent.parent / "docs/generated/settings.md"
_FIELD = re.compile(r"((?:    #: .*\n)*)    (\w+): ")
_HEAD = """\
# Settings

Made by `make docs` from the settings classes; do not edit. Every process reads its settings from environment
variables, once, at its start. An impossible value refuses to start and names the variable. `lambdock serve` sets what
its parts must agree on; for compose, the knobs are in [.env.example](../../.env.example).

| variable | default | for | meaning |
|---|---|---|---|
"""
_TAIL = """
`lambdock serve` also reads `LAMBDOCK_WORKERS` and `LAMBDOCK_CONTROLLERS`, how many processes of each it starts (1), and
gives workers after the first a name and a directory of their own.

The `lambdock` command reads `LAMBDOCK_ENDPOINT`, else `AWS_ENDPOINT_URL_LAMBDA`, else `AWS_ENDPOINT_URL`, and region
and credentials as every AWS client does.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One row of the page."""

    variables: tuple[str, ...]
    default: str
    process: str
    meaning: str

    def row(self) -> str:
        names = " or ".join(f"`{name}`" for name in self.variables)
        return f"| {names} | {self.default} | {self.process} | {self.meaning} |\n"


def settings_page() -> str:
    """Return the page's text."""
    rows: dict[tuple[str, ...], Setting] = {}
    for process, model in (("controller, background", ControllerSettings), ("worker", WorkerSettings)):
        for setting in settings_of(process, model):
            other = rows.get(setting.variables)
            if other is None:
                rows[setting.variables] = setting
                continue
            same = other.meaning == setting.meaning
            rows[setting.variables] = Setting(
                variables=setting.variables,
                default=other.default if other.default == setting.default else f"{other.default}; {setting.default}",
                process="all",
                meaning=other.meaning if same else f"{other.meaning} For a worker: {setting.meaning}",
            )
    return _HEAD + "".join(row.row() for row in rows.values()) + _TAIL


def settings_of(process: str, model: type[BaseSettings]) -> Iterator[Setting]:
    """Read one class. Raises ValueError naming a setting without a comment."""
    comments = {name: _text(comment) for comment, name in _FIELD.findall(textwrap.dedent(inspect.getsource(model)))}
    for name, field in model.model_fields.items():
        if not comments.get(name):
            raise ValueError(f"{model.__name__}.{name} has no `#:` comment that tells what it is")
        rule = _rule(field)
        meaning = f"{comments[name]} {rule}".strip().replace("|", "\\|")
        yield Setting(variables=_variables(name, field), default=_default(field), process=process, meaning=meaning)


def _text(comment: str) -> str:
    return " ".join(line.strip().removeprefix("#: ") for line in comment.splitlines())


def _variables(name: str, field: FieldInfo) -> tuple[str, ...]:
    if isinstance(field.validation_alias, AliasChoices):
        return tuple(str(choice) for choice in field.validation_alias.choices if str(choice).isupper())
    return (f"LAMBDOCK_{name.upper()}",)


def _default(field: FieldInfo) -> str:
    factory: Any = field.default_factory
    if factory is not None:
        # What a function finds out differs from machine to machine; an empty collection does not.
        return "none" if isinstance(factory, type) else "the host's name"
    if field.default in (None, "", (), SecretStr("")):
        return "none"
    shown = str(field.default).lower() if isinstance(field.default, bool) else f"{field.default}"
    return f"`{shown.removesuffix('.0')}`"


def _rule(field: FieldInfo) -> str:
    if get_origin(field.annotation) is Literal:
        return f"One of {', '.join(map(str, get_args(field.annotation)))}."
    said = []
    for item in field.metadata:
        if isinstance(item, Ge):
            said.append(f"At least {item.ge}.")
        elif isinstance(item, Gt):
            said.append(f"More than {item.gt}.")
        elif pattern := getattr(item, "pattern", None):
            said.append(f"Matches `{pattern}`.")
    return " ".join(said)
