"""What the service model demands of a layer's members, in AWS's words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from controller.domain import errors
from controller.domain.arn import violation_text
from controller.domain.runtimes import RUNTIMES
from controller.domain.validation import Constraint

ARCHITECTURES = ("x86_64", "arm64")

#: Member as AWS writes it in a refusal → its constraint.
_SINGLE: Mapping[str, Constraint] = {
    "description": Constraint(longest=256),
    "licenseInfo": Constraint(longest=512, pattern=r".*"),
    "content.s3Bucket": Constraint(smallest=3, longest=63, pattern=r"[0-9A-Za-z\.\-_]*(?<!\.)"),
    "content.s3Key": Constraint(smallest=1, longest=1024, pattern=r".*"),
    "content.s3ObjectVersion": Constraint(smallest=1, longest=1024, pattern=r".*"),
    "content.s3ObjectStorageMode": Constraint(choices=("COPY", "REFERENCE")),
    "compatibleRuntime": Constraint(choices=RUNTIMES),
    "compatibleArchitecture": Constraint(choices=ARCHITECTURES),
    "maxItems": Constraint(smallest=1, longest=50),
}
#: List → the longest that it may be, and what each of its items may be.
_LISTS: Mapping[str, tuple[int, tuple[str, ...]]] = {
    "compatibleRuntimes": (15, RUNTIMES),
    "compatibleArchitectures": (2, ARCHITECTURES),
}


def check_layer_members(members: Mapping[str, Any], required: Sequence[str] = ()) -> None:
    """Raise one ValidationFailedError that names every violation; members that are None or missing were not given."""
    violations = [
        f"Value null at '{name}' failed to satisfy constraint: Member must not be null"
        for name in required
        if members.get(name) is None
    ]
    for name, constraint in _SINGLE.items():
        value = members.get(name)
        if value is not None:
            violations.extend(_worded(str(value), name, rule) for rule in constraint.broken_by(value))
    for name, (longest, choices) in _LISTS.items():
        violations.extend(_list_violations(name, members.get(name) or (), longest, choices))
    if violations:
        raise errors.ValidationFailedError(violation_text(violations))


def _list_violations(name: str, values: Sequence[str], longest: int, choices: tuple[str, ...]) -> list[str]:
    shown = f"[{', '.join(values)}]"
    found = []
    if len(values) > longest:
        found.append(_worded(shown, name, f"Member must have length less than or equal to {longest}"))
    if any(value not in choices for value in values):
        rule = f"Member must satisfy enum value set: [{', '.join(choices)}]"
        # AWS wraps the rule about items for this list, and not for the other.
        wrapped = f"Member must satisfy constraint: [{rule}]"
        found.append(_worded(shown, name, wrapped if name == "compatibleArchitectures" else rule))
    return found


def _worded(value: str, name: str, rule: str) -> str:
    return f"Value '{value}' at '{name}' failed to satisfy constraint: {rule}"
