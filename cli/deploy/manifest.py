"""What a deployment is to be: options of the command over `lambdock.toml`."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from cli.errors import UsageError

MANIFEST_NAME = "lambdock.toml"
ARCHITECTURES = ("x86_64", "arm64")

#: What makes an entry of `layers` the ARN of a layer version; anything else is a folder.
ARN_PREFIX = "arn:"
#: Keys that mean nothing for a function that is a container image, and the other way round.
_ONLY_OF_PACKAGES = ("runtime", "handler", "layers")
_ONLY_OF_IMAGES = ("entry_point", "command", "working_directory")

_VARIABLE = re.compile(r"[A-Za-z][A-Za-z0-9_]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Settings of a function; None: not said, the platform's default or the present value stays."""

    name: str | None = None
    runtime: str | None = None
    handler: str | None = None
    #: MB.
    memory: int | None = None
    #: Seconds.
    timeout: int | None = None
    arch: str | None = None
    #: ARNs of layer versions, and folders to publish as such, in the order in which they are merged.
    layers: tuple[str | Path, ...] | None = None
    #: The function's container image: a name on the local engine, or an ImageUri with a registry's host.
    image: str | None = None
    #: These three replace what the image says.
    entry_point: tuple[str, ...] | None = None
    command: tuple[str, ...] | None = None
    working_directory: str | None = None
    env: Mapping[str, str] | None = None

    def over(self, base: Manifest) -> Manifest:
        """Return these settings with `base` filling what is not said; environments are merged, ours winning."""
        merged = {f.name: _first(getattr(self, f.name), getattr(base, f.name)) for f in fields(self)}
        if self.env is not None and base.env is not None:
            merged["env"] = {**base.env, **self.env}
        return Manifest(**merged)

    def check(self) -> None:
        """Raise `UsageError` for settings that cannot go together, or have a value that cannot be meant."""
        if self.arch is not None and self.arch not in ARCHITECTURES:
            raise UsageError(f"the architecture must be {' or '.join(ARCHITECTURES)}, not {self.arch!r}")
        if self.image is None:
            for key in _ONLY_OF_IMAGES:
                if getattr(self, key) is not None:
                    raise UsageError(f'{key} is for container images, and no image is named: add image = "…"')
            return
        for key in _ONLY_OF_PACKAGES:
            if getattr(self, key) is not None:
                raise UsageError(
                    f"image is {self.image!r} and {key} is given too: a container image brings its own {key}; "
                    f"leave one of the two out"
                )


def parse_environment(written: Iterable[str]) -> dict[str, str]:
    """Return `K=V` options as a mapping; the last of equal names wins. Raises: `UsageError`."""
    result: dict[str, str] = {}
    for option in written:
        name, equals, value = option.partition("=")
        if not equals or not _VARIABLE.fullmatch(name):
            raise UsageError(
                f"--env takes NAME=VALUE, the name of letters, digits and underscores and at least 2 long; "
                f"not {name + equals!r}"
            )
        result[name] = value
    return result


def parse_layers(written: Iterable[str], base: Path) -> tuple[str | Path, ...]:
    """Return layers as written: ARNs as they are, all others as folders relative to `base`."""
    return tuple(entry if entry.startswith(ARN_PREFIX) else base / Path(entry).expanduser() for entry in written)


def read_manifest(directory: Path) -> Manifest:
    """Return what `lambdock.toml` in `directory` says, or nothing. Raises: `UsageError` naming the key."""
    path = directory / MANIFEST_NAME
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Manifest()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    known = [f.name for f in fields(Manifest)]
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise UsageError(f"{path}: unknown key {unknown[0]!r}. Known are: {', '.join(known)}")
    for key in ("name", "runtime", "handler", "arch", "image", "working_directory"):
        _expect(path, table, key, str, "a string")
    for key in ("memory", "timeout"):
        _expect(path, table, key, int, "a whole number")
    for key in ("layers", "entry_point", "command"):
        _expect_strings(path, table, key)
    _expect(path, table, "env", dict, "a table")
    for name, value in table.get("env", {}).items():
        if not isinstance(value, str) or not _VARIABLE.fullmatch(name):
            raise UsageError(f"{path}: env.{name} must be a string, with a name of letters, digits and underscores")
    lists: dict[str, Any] = {key: tuple(table[key]) for key in ("entry_point", "command") if key in table}
    if "layers" in table:
        lists["layers"] = parse_layers(table["layers"], directory)
    return Manifest(**(table | lists))


def _first(said: Any, otherwise: Any) -> Any:
    return otherwise if said is None else said


def _expect(path: Path, table: dict[str, Any], key: str, kind: type, description: str) -> None:
    value = table.get(key)
    if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
        raise UsageError(f"{path}: {key} must be {description}, not {value!r}")


def _expect_strings(path: Path, table: dict[str, Any], key: str) -> None:
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise UsageError(f'{path}: {key} must be a list of strings, such as ["one", "two"], not {value!r}')
