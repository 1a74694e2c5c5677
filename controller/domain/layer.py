"""A layer's versions, and the ways in which a caller may name a layer or one of its versions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from controller.domain import errors
from controller.domain.arn import partition_of, violation_text
from controller.domain.release import Package

#: The largest number that any store holds; AWS's is a long.
NUMBER_MAX = 2**31 - 1

_REGION = r"(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}"
_LAYER_ARN = rf"arn:(aws[a-zA-Z-]*)?:lambda:{_REGION}:\d{{12}}:layer:[a-zA-Z0-9-_]"
#: The service model's patterns, which AWS's refusals recite.
NAME_PATTERN = rf"({_LAYER_ARN}{{1,140}}|[a-zA-Z0-9-_]{{1,140}})"
VERSION_ARN_PATTERN = rf"(({_LAYER_ARN}+:[0-9]+)|(arn:[a-zA-Z0-9-]+:lambda:::awslayer:[a-zA-Z0-9-_]+))"
NAMES_MAX = 2048

_PARTS = re.compile(
    r"arn:[^:]*:lambda:(?P<region>[^:]+):(?P<account>\d{12}):layer:(?P<name>[^:]+)(?::(?P<number>\d+))?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerVersion:
    """One version of a layer. Nothing of it ever changes; it may only be deleted."""

    account: str
    region: str
    name: str
    package: Package
    created_at: datetime
    #: From 1; 0 until the store has given one out.
    number: int = 0
    description: str = ""
    license_info: str = ""
    #: For filters of lists only; a function may use a layer whatever these say.
    compatible_runtimes: tuple[str, ...] = ()
    compatible_architectures: tuple[str, ...] = ()

    @property
    def layer_arn(self) -> str:
        """The ARN of the layer that this is a version of."""
        return layer_arn(self.account, self.region, self.name)

    @property
    def arn(self) -> str:
        """The ARN of this version."""
        return f"{self.layer_arn}:{self.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerName:
    """A layer, by whose it is."""

    account: str
    region: str
    name: str

    @property
    def arn(self) -> str:
        """The layer's ARN."""
        return layer_arn(self.account, self.region, self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerVersionName:
    """A version of a layer, as an ARN names it; whether it exists is another question."""

    #: None for a layer of AWS's own (`awslayer`), of which there are none here.
    layer: LayerName | None
    number: int
    #: As the caller wrote it.
    arn: str


def layer_arn(account: str, region: str, name: str) -> str:
    """Return a layer's ARN."""
    return f"arn:{partition_of(region)}:lambda:{region}:{account}:layer:{name}"


def parse_layer_name(raw: str, *, account: str, region: str) -> LayerName:
    """Read a name or an ARN (without a version), in the name of `account` in `region`.

    Raises ValidationFailedError for what is neither. Another account or region than the caller's is returned as
    named: what that means depends on the operation.
    """
    violations = _broken(raw, NAME_PATTERN, "layerName")
    if violations:
        raise errors.ValidationFailedError(violation_text(violations))
    parts = _PARTS.fullmatch(raw)
    if parts is None:
        return LayerName(account=account, region=region, name=raw)
    return LayerName(account=parts["account"], region=parts["region"], name=parts["name"])


def parse_layer_version_arn(raw: str) -> LayerVersionName:
    """Read the ARN of one version. Raises ValidationFailedError for anything else."""
    violations = _broken(raw, VERSION_ARN_PATTERN, "arn")
    if violations:
        raise errors.ValidationFailedError(violation_text(violations))
    return _version_name(raw)


def parse_layer_references(raws: Sequence[str]) -> tuple[LayerVersionName, ...]:
    """Read the Layers of a function. Raises one ValidationFailedError, as AWS words it for a member of a list."""
    if any(_broken(raw, VERSION_ARN_PATTERN, "") for raw in raws):
        rules = (
            f"Member must have length less than or equal to {NAMES_MAX}, Member must have length greater than or equal"
            f" to 1, Member must satisfy regular expression pattern: {VERSION_ARN_PATTERN}, Member must not be null"
        )
        raise errors.ValidationFailedError(
            violation_text(
                [
                    f"Value '[{', '.join(raws)}]' at 'layers' failed to satisfy constraint: Member must satisfy"
                    f" constraint: [{rules}]"
                ]
            )
        )
    return tuple(_version_name(raw) for raw in raws)


def _version_name(arn: str) -> LayerVersionName:
    parts = _PARTS.fullmatch(arn)
    if parts is None:
        return LayerVersionName(layer=None, number=0, arn=arn)
    layer = LayerName(account=parts["account"], region=parts["region"], name=parts["name"])
    return LayerVersionName(layer=layer, number=int(parts["number"]), arn=arn)


def _broken(raw: str, pattern: str, member: str) -> list[str]:
    broken = []
    if len(raw) > NAMES_MAX:
        broken.append(f"Member must have length less than or equal to {NAMES_MAX}")
    if not raw:
        broken.append("Member must have length greater than or equal to 1")
    if re.fullmatch(pattern, raw, re.ASCII) is None:
        broken.append(f"Member must satisfy regular expression pattern: {pattern}")
    return [f"Value '{raw}' at '{member}' failed to satisfy constraint: {rule}" for rule in broken]
