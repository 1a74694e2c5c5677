"""Every way in which a caller may write the name of a function."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from controller.domain import errors

LATEST = "$LATEST"
#: Longest name of a function itself; the model's 140 are for ARNs.
NAME_MAX = 64

_PREFIX = (
    r"(arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?(\d{12}:)?(function:)?"
)


class NameShape(Enum):
    """The service model's two shapes of a function's name: (longest, pattern). Reading operations take the wider."""

    FUNCTION = (140, _PREFIX + r"([a-zA-Z0-9-_]+)(:(\$LATEST|[a-zA-Z0-9-_]+))?")
    NAMESPACED = (256, _PREFIX + r"([a-zA-Z0-9-_\.]+)(:(\$LATEST(\.PUBLISHED)?|[a-zA-Z0-9-_]+))?")


_PARTS = re.compile(
    r"(?:arn:(?:aws[a-zA-Z-]*)?:lambda:)?"
    r"(?:(?P<region>(?:eusc-)?[a-z]{2}(?:-gov|-iso[a-z]?)?-[a-z]+-\d):)?"
    r"(?:(?P<account>\d{12}):)?(?:function:)?"
    r"(?P<name>[a-zA-Z0-9-_.]+)(?::(?P<qualifier>\$LATEST(?:\.PUBLISHED)?|[a-zA-Z0-9-_]+))?",
    re.ASCII,
)
QUALIFIER_PATTERN = r"\$(LATEST(\.PUBLISHED)?)|[a-zA-Z0-9-_$]+"
_QUALIFIER = re.compile(QUALIFIER_PATTERN)
QUALIFIER_MAX = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionIdentifier:
    """A function, and the version or alias that the caller named with it, if any."""

    name: str
    qualifier: str | None = None

    def arn(self, account: str, region: str) -> str:
        """Return the ARN, with the qualifier where there is one."""
        return function_arn(account, region, self.name, self.qualifier)


def partition_of(region: str) -> str:
    """Return the ARN partition that a region belongs to."""
    for prefix, partition in (("cn-", "aws-cn"), ("us-gov-", "aws-us-gov"), ("eusc-", "aws-eusc")):
        if region.startswith(prefix):
            return partition
    return "aws"


def function_arn(account: str, region: str, name: str, qualifier: str | None = None) -> str:
    """Return a function's ARN, qualified if asked for."""
    arn = f"arn:{partition_of(region)}:lambda:{region}:{account}:function:{name}"
    return f"{arn}:{qualifier}" if qualifier is not None else arn


def parse_function_name(
    raw: str, *, account: str, region: str, qualifier: str | None = None, shape: NameShape = NameShape.NAMESPACED
) -> FunctionIdentifier:
    """Read a name, partial ARN or full ARN, each with or without `:qualifier`, in the name of `account` in `region`.

    Raises ValidationFailedError for what is no name, InvalidParameterValueError when the name's qualifier and
    `qualifier` differ, ResourceNotFoundError for another region, AccessDeniedError for another account.
    """
    parts = _match(raw, qualifier, shape)
    named = parts["qualifier"]
    if named is not None and qualifier is not None and named != qualifier:
        raise errors.InvalidParameterValueError(errors.QUALIFIER_MISMATCH)
    if parts["region"] is not None and parts["region"] != region:
        raise errors.other_region(parts["region"], region)
    if parts["account"] is not None and parts["account"] != account:
        raise errors.other_account(account, function_arn(parts["account"], region, str(parts["name"])))
    return FunctionIdentifier(name=str(parts["name"]), qualifier=qualifier if qualifier is not None else named)


def parse_unqualified_name(raw: str, *, account: str, region: str) -> FunctionIdentifier:
    """Read the name of a function for an operation on the function itself; `$LATEST` may be named, nothing else."""
    identifier = parse_function_name(raw, account=account, region=region, shape=NameShape.FUNCTION)
    if identifier.qualifier not in (None, LATEST):
        raise errors.InvalidParameterValueError(errors.UNQUALIFIED_ONLY)
    return FunctionIdentifier(name=identifier.name)


def check_new_name(identifier: FunctionIdentifier) -> None:
    """Raise ValidationFailedError for a name too long for a new function."""
    if len(identifier.name) > NAME_MAX:
        rule = f"Member must have length less than or equal to {NAME_MAX}"
        raise errors.ValidationFailedError(violation_text([_violation(identifier.name, "functionName", rule)]))


def _match(raw: str, qualifier: str | None, shape: NameShape) -> dict[str, str | None]:
    longest, pattern = shape.value
    violations = []
    if len(raw) > longest:
        violations.append(_violation(raw, "functionName", f"Member must have length less than or equal to {longest}"))
    match = _PARTS.fullmatch(raw)
    if match is None or re.fullmatch(pattern, raw, re.ASCII) is None:
        violations.append(_violation(raw, "functionName", f"Member must satisfy regular expression pattern: {pattern}"))
    if qualifier is not None:
        violations.extend(_qualifier_violations(qualifier))
    if violations or match is None:
        raise errors.ValidationFailedError(violation_text(violations))
    return match.groupdict()


def _qualifier_violations(qualifier: str) -> list[str]:
    if not 1 <= len(qualifier) <= QUALIFIER_MAX:
        bound = "less than or equal to 128" if qualifier else "greater than or equal to 1"
        return [_violation(qualifier, "qualifier", f"Member must have length {bound}")]
    if _QUALIFIER.fullmatch(qualifier) is None:
        rule = f"Member must satisfy regular expression pattern: {QUALIFIER_PATTERN}"
        return [_violation(qualifier, "qualifier", rule)]
    return []


def _violation(value: str, path: str, constraint: str) -> str:
    return f"Value '{value}' at '{path}' failed to satisfy constraint: {constraint}"


def violation_text(violations: list[str]) -> str:
    """Join violations as AWS does, all in one message."""
    noun = "error" if len(violations) == 1 else "errors"
    return f"{len(violations)} validation {noun} detected: {'; '.join(violations)}"
