"""Reads `catalog.toml`, the only list of runtimes, into values."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

HERE = Path(__file__).resolve().parent
#: What the images of all families have in common: the gate.
SHARED = HERE / "shared"


class RuntimeStatus(StrEnum):
    """What becomes of a runtime here."""

    #: Built here, from the first base that can be had.
    SUPPORTED = "supported"
    #: Runs once the operator names an image for it.
    SUPPLY_IMAGE = "supply-image"
    #: As above, and Lambda itself no longer lets anybody create functions with it.
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class RegistryBase:
    """A base that an image registry serves, such as `python:3.13-slim-trixie`."""

    image: str


@dataclass(frozen=True, slots=True)
class SuiteBase:
    """A base that `base/make-base.sh` makes of a Debian suite, without a registry."""

    suite: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeEntry:
    """One runtime identifier of Lambda's."""

    #: `python3.13`, as in a function's configuration.
    name: str
    #: `python`, `nodejs`, `java`, …
    family: str
    status: RuntimeStatus
    #: Where its Dockerfile is; None for runtimes that can't be built here.
    folder: Path | None
    #: In order of preference; empty for runtimes that can't be built here.
    bases: tuple[RegistryBase | SuiteBase, ...]
    #: What the function's own variables are merged over. The reserved variables are not in it.
    default_env: Mapping[str, str]
    #: The program that a sandbox's gate becomes, for functions that come as an archive.
    bootstrap_argv: tuple[str, ...]

    @property
    def execution_env(self) -> str:
        """The value of AWS_EXECUTION_ENV."""
        return f"AWS_Lambda_{self.name}"


class CatalogError(Exception):
    """The catalog file is wrong; names the entry."""


def load_catalog(path: Path = HERE / "catalog.toml") -> dict[str, RuntimeEntry]:
    """Read the catalog: identifier to entry, in the file's order. Callers keep the result.

    Raises:
        CatalogError: an entry is incomplete or unknown words are in it.
    """
    data = tomllib.loads(path.read_text(encoding="utf-8"))
    return {name: _entry(name, raw, data, path.parent) for name, raw in data["runtimes"].items()}


def _entry(name: str, raw: dict[str, Any], data: dict[str, Any], root: Path) -> RuntimeEntry:
    try:
        defaults = data["defaults"]
        family = data["families"][raw["family"]]
        status = RuntimeStatus(raw["status"])
        bases = tuple(_base(text) for text in raw.get("bases", ()))
        if (status is RuntimeStatus.SUPPORTED) != bool(bases and "folder" in family):
            raise ValueError("'supported' needs bases and a family with a folder, and the others must not have bases")
        return RuntimeEntry(
            name=name,
            family=raw["family"],
            status=status,
            folder=root / family["folder"] if bases else None,
            bases=bases,
            default_env=MappingProxyType({**defaults["env"], **family.get("env", {})}),
            bootstrap_argv=tuple(family.get("bootstrap_argv", defaults["bootstrap_argv"])),
        )
    except (KeyError, ValueError) as error:
        raise CatalogError(f"runtime {name!r} in the catalog: {error}") from error


def _base(text: str) -> RegistryBase | SuiteBase:
    kind, _, value = text.partition(":")
    if kind == "registry" and value:
        return RegistryBase(value)
    if kind == "suite" and value:
        return SuiteBase(value)
    raise ValueError(f"a base is 'registry:IMAGE' or 'suite:NAME', not {text!r}")
