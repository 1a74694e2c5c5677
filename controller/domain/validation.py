"""What Lambda accepts: the service model's constraints, and the rules between fields.

All violations of the model come in one ValidationException; the first broken rule between fields is an
InvalidParameterValueException of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from controller.domain import errors
from controller.domain.arn import violation_text
from controller.domain.runtimes import RUNTIMES, unknown_runtime_text

ENVIRONMENT_MAX_BYTES = 4096
LAYERS_MAX = 5
TAGS_MAX = 50
ZIPPED_MAX_BYTES = 52_428_800

RESERVED_VARIABLES = frozenset(
    {
        "_HANDLER",
        "_X_AMZN_TRACE_ID",
        "AWS_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "AWS_DEFAULT_REGION",
        "AWS_EXECUTION_ENV",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
        "AWS_LAMBDA_FUNCTION_NAME",
        "AWS_LAMBDA_FUNCTION_VERSION",
        "AWS_LAMBDA_INITIALIZATION_TYPE",
        "AWS_LAMBDA_LOG_GROUP_NAME",
        "AWS_LAMBDA_LOG_STREAM_NAME",
        "AWS_LAMBDA_RUNTIME_API",
        "AWS_REGION",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "LAMBDA_RUNTIME_DIR",
        "LAMBDA_TASK_ROOT",
    }
)

_ARN_OR_EMPTY = r"(arn:(aws[a-zA-Z-]*)?:[a-z0-9-.]+:.*)|()"
_VARIABLE_NAME = r"[a-zA-Z]([a-zA-Z0-9_])+"
# Python's re lacks \p; the same classes, spelled for it, beside the text that AWS recites.
_TAG_TEXT = r"([\p{L}\p{Z}\p{N}_.:/=+\-@]*)"
_TAG_RE = r"[\w\s.:/=+\-@]*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """The service model's constraints of one member; `smallest`/`longest` bound numbers, lengths and counts alike."""

    smallest: int | None = None
    longest: int | None = None
    pattern: str | None = None
    choices: tuple[str, ...] = ()

    def broken_by(self, value: Any) -> list[str]:
        """Return AWS's wording of each constraint that `value` violates."""
        found = [*self._bounds(value)]
        if self.pattern is not None and isinstance(value, str) and not re.fullmatch(self.pattern, value, re.ASCII):
            found.append(f"Member must satisfy regular expression pattern: {self.pattern}")
        if self.choices and value not in self.choices:
            found.append(f"Member must satisfy enum value set: [{', '.join(self.choices)}]")
        return found

    def _bounds(self, value: Any) -> Iterator[str]:
        what, size = ("value", value) if isinstance(value, int) else ("length", len(value))
        if self.smallest is not None and size < self.smallest:
            yield f"Member must have {what} greater than or equal to {self.smallest}"
        if self.longest is not None and size > self.longest:
            yield f"Member must have {what} less than or equal to {self.longest}"


_S3_CONSTRAINTS: Mapping[str, Constraint] = {
    "S3Bucket": Constraint(smallest=3, longest=63, pattern=r"[0-9A-Za-z\.\-_]*(?<!\.)"),
    "S3Key": Constraint(smallest=1, longest=1024, pattern=r".*"),
    "S3ObjectVersion": Constraint(smallest=1, longest=1024, pattern=r".*"),
    "S3ObjectStorageMode": Constraint(choices=("COPY", "REFERENCE")),
}

#: Wire path → constraint; `[]` steps into a list. Maxima are those of ordinary functions, not of managed instances.
CONSTRAINTS: Mapping[str, Constraint] = {
    "Role": Constraint(longest=10000, pattern=r"arn:(aws[a-zA-Z-]*)?:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+"),
    "Handler": Constraint(longest=128, pattern=r"[^\s]+"),
    "Description": Constraint(longest=256),
    "Timeout": Constraint(smallest=1, longest=900),
    "MemorySize": Constraint(smallest=128, longest=10240),
    "EphemeralStorage.Size": Constraint(smallest=512, longest=10240),
    "PackageType": Constraint(choices=("Zip", "Image")),
    "Architectures": Constraint(smallest=1, longest=1),
    "Architectures[]": Constraint(choices=("x86_64", "arm64")),
    "KMSKeyArn": Constraint(longest=10000, pattern=_ARN_OR_EMPTY),
    "DeadLetterConfig.TargetArn": Constraint(longest=10000, pattern=_ARN_OR_EMPTY),
    "TracingConfig.Mode": Constraint(choices=("Active", "PassThrough")),
    "SnapStart.ApplyOn": Constraint(choices=("PublishedVersions", "None")),
    "LoggingConfig.LogFormat": Constraint(choices=("JSON", "Text")),
    "LoggingConfig.ApplicationLogLevel": Constraint(choices=("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")),
    "LoggingConfig.SystemLogLevel": Constraint(choices=("DEBUG", "INFO", "WARN")),
    "LoggingConfig.LogGroup": Constraint(smallest=1, longest=512, pattern=r"[\.\-_/#A-Za-z0-9]+"),
    "VpcConfig.SubnetIds": Constraint(longest=16),
    "VpcConfig.SubnetIds[]": Constraint(longest=1024, pattern=r"subnet-[0-9a-z]*"),
    "VpcConfig.SecurityGroupIds": Constraint(longest=5),
    "VpcConfig.SecurityGroupIds[]": Constraint(longest=1024, pattern=r"sg-[0-9a-zA-Z]*"),
    "FileSystemConfigs": Constraint(longest=1),
    "FileSystemConfigs[].LocalMountPath": Constraint(longest=160, pattern=r"/mnt/[a-zA-Z0-9-_.]+"),
    "ImageConfig.EntryPoint": Constraint(longest=1500),
    "ImageConfig.Command": Constraint(longest=1500),
    "ImageConfig.WorkingDirectory": Constraint(longest=1000),
    **{
        f"{parent}{member}": constraint
        # Of CreateFunction, and of UpdateFunctionCode.
        for parent in ("Code.", "")
        for member, constraint in _S3_CONSTRAINTS.items()
    },
    "ReservedConcurrentExecutions": Constraint(smallest=0),
    "FunctionVersion": Constraint(choices=("ALL",)),
    "MaxItems": Constraint(smallest=1, longest=10000),
}


def check_members(request: Mapping[str, Any], required: tuple[str, ...] = ()) -> None:
    """Raise one ValidationFailedError that names every violation of the model in `request` (wire names)."""
    violations = [
        f"Value null at '{_camel(name)}' failed to satisfy constraint: Member must not be null"
        for name in required
        if request.get(name) is None
    ]
    for path, constraint in CONSTRAINTS.items():
        for value in _values_at(request, path.split(".")):
            violations.extend(_worded(path, value, text) for text in constraint.broken_by(value))
    violations.extend(_environment_violations(request))
    violations.extend(_tag_violations(request.get("Tags") or {}))
    if violations:
        raise errors.ValidationFailedError(violation_text(violations))


def check_rules(request: Mapping[str, Any]) -> None:
    """Raise InvalidParameterValueError for the first broken rule that the model does not express."""
    runtime = request.get("Runtime")
    if runtime is not None and runtime not in RUNTIMES:
        raise errors.InvalidParameterValueError(unknown_runtime_text(runtime))
    if len(request.get("Tags") or {}) > TAGS_MAX:
        raise errors.InvalidParameterValueError(errors.TOO_MANY_TAGS)
    if len(request.get("Layers") or ()) > LAYERS_MAX:
        raise errors.InvalidParameterValueError(errors.TOO_MANY_LAYERS)
    variables = (request.get("Environment") or {}).get("Variables") or {}
    check_environment(variables)


def check_environment(variables: Mapping[str, str]) -> None:
    """Raise InvalidParameterValueError for reserved names or more than 4 KB."""
    reserved = [name for name in variables if name in RESERVED_VARIABLES]
    prefix = "Lambda was unable to configure your environment variables because the environment variables you have"
    if reserved:
        raise errors.InvalidParameterValueError(
            f"{prefix} provided contains reserved keys that are currently not supported for modification."
            f" Reserved keys used in this request: {', '.join(reserved)}"
        )
    measured = orjson.dumps(dict(variables))
    if len(measured) > ENVIRONMENT_MAX_BYTES:
        raise errors.InvalidParameterValueError(
            f"{prefix} provided exceeded the 4KB limit. String measured: {measured.decode()}"
        )


def _values_at(node: Any, steps: list[str]) -> Iterator[Any]:
    if node is None:
        return
    if not steps:
        yield node
        return
    step = steps[0]
    if step.endswith("[]"):
        for item in node.get(step[:-2]) or ():
            yield from _values_at(item, steps[1:])
    else:
        yield from _values_at(node.get(step), steps[1:])


def _worded(path: str, value: Any, text: str) -> str:
    name = ".".join(_camel(step.removesuffix("[]")) for step in path.split("."))
    if path == "Architectures[]":
        return f"Value '[{value}]' at '{name}' failed to satisfy constraint: Member must satisfy constraint: [{text}]"
    shown = f"[{', '.join(map(str, value))}]" if isinstance(value, (list, tuple)) else value
    return f"Value '{shown}' at '{name}' failed to satisfy constraint: {text}"


def _environment_violations(request: Mapping[str, Any]) -> list[str]:
    variables = (request.get("Environment") or {}).get("Variables") or {}
    # Reserved names get their own refusal even where the pattern does not allow them (`_HANDLER`).
    if all(name in RESERVED_VARIABLES or re.fullmatch(_VARIABLE_NAME, name, re.ASCII) for name in variables):
        return []
    # The map is sensitive in the model, so AWS does not recite it.
    rule = f"Member must satisfy regular expression pattern: {_VARIABLE_NAME}"
    return [
        f"Value at 'environment.variables' failed to satisfy constraint: Map keys must satisfy constraint: [{rule}]"
    ]


def _tag_violations(tags: Mapping[str, str]) -> list[str]:
    found = []
    for kind, low, high, texts in (("keys", 1, 128, tags.keys()), ("values", 0, 256, tags.values())):
        if any(not low <= len(text) <= high or not re.fullmatch(_TAG_RE, text) for text in texts):
            rules = (
                f"Member must have length less than or equal to {high}, Member must have length greater than or equal"
                f" to {low}, Member must satisfy regular expression pattern: {_TAG_TEXT}"
            )
            shown = "{" + ", ".join(f"{key}={value}" for key, value in tags.items()) + "}"
            found.append(f"Value '{shown}' at 'tags' failed to satisfy constraint: Map {kind} must satisfy: [{rules}]")
    return found


def _camel(name: str) -> str:
    if name == "KMSKeyArn":
        return "kMSKeyArn"
    return name[:1].lower() + name[1:]
