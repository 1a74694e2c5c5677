"""The wire form of functions: requests into domain values, domain values into answers."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from controller.api.params import marker
from controller.api.wire import WireModel
from controller.domain import errors
from controller.domain.arn import partition_of
from controller.domain.function import Function, FunctionVersion, Settings, version_number
from controller.domain.validation import check_members, check_rules
from controller.resources.functions.lookup import Found
from controller.resources.functions.service import NewCode, NewFunction
from controller.resources.functions.stored import shown_members, stored_members

_STATE_MEMBERS = (
    "State",
    "StateReason",
    "StateReasonCode",
    "LastUpdateStatus",
    "LastUpdateStatusReason",
    "LastUpdateStatusReasonCode",
    "RuntimeVersionConfig",
)
#: Members of the model that would change what runs, so that ignoring them would be wrong.
_REFUSED = {
    "TenancyConfig": "tenant isolation comes later",
    "CapacityProviderConfig": "functions run on this installation's own workers",
    "DurableConfig": "durable functions come later",
    "AcceleratorConfig": "accelerators are not offered",
    "RuntimeConfig": "use Runtime with one of Lambda's identifiers",
    "CodeSigningConfigArn": "code signing comes later",
    "ImageConfig": "it belongs to PackageType Image, and packages are Zip",
    "PublishTo": "use Publish",
}
_CODE_REFUSED = {
    "S3Bucket": "pass the deployment package inline as ZipFile",
    "S3Key": "pass the deployment package inline as ZipFile",
    "ImageUri": "pass a deployment package inline as ZipFile",
    "SourceKMSKeyArn": "pass an unencrypted deployment package as ZipFile",
}


class EnvironmentModel(WireModel):
    """Environment variables."""

    Variables: dict[str, str] | None = None


class EphemeralStorageModel(WireModel):
    """The size of /tmp in MB."""

    Size: int


class VpcConfigModel(WireModel):
    """Networks; stored, not enforced."""

    SubnetIds: list[str] | None = None
    SecurityGroupIds: list[str] | None = None
    Ipv6AllowedForDualStack: bool | None = None


class DeadLetterConfigModel(WireModel):
    """Where failed events go; stored, not enforced."""

    TargetArn: str | None = None


class TracingConfigModel(WireModel):
    """Tracing; stored, not enforced."""

    Mode: str | None = None


class SnapStartModel(WireModel):
    """Snapshots; stored, not enforced."""

    ApplyOn: str | None = None


class LoggingConfigModel(WireModel):
    """Log format and group; the group names the log, the rest is stored."""

    LogFormat: str | None = None
    ApplicationLogLevel: str | None = None
    SystemLogLevel: str | None = None
    LogGroup: str | None = None


class FileSystemConfigModel(WireModel):
    """A network file system; stored, not enforced."""

    Arn: str
    LocalMountPath: str
    S3FilesConfig: dict[str, str] | None = None


class ConfigurationModel(WireModel):
    """What CreateFunction and UpdateFunctionConfiguration have in common."""

    Runtime: str | None = None
    Role: str | None = None
    Handler: str | None = None
    Description: str | None = None
    Timeout: int | None = None
    MemorySize: int | None = None
    VpcConfig: VpcConfigModel | None = None
    DeadLetterConfig: DeadLetterConfigModel | None = None
    Environment: EnvironmentModel | None = None
    KMSKeyArn: str | None = None
    TracingConfig: TracingConfigModel | None = None
    Layers: list[str] | None = None
    FileSystemConfigs: list[FileSystemConfigModel] | None = None
    ImageConfig: dict[str, Any] | None = None
    EphemeralStorage: EphemeralStorageModel | None = None
    SnapStart: SnapStartModel | None = None
    LoggingConfig: LoggingConfigModel | None = None
    CapacityProviderConfig: dict[str, Any] | None = None
    DurableConfig: dict[str, Any] | None = None
    RuntimeConfig: dict[str, Any] | None = None
    AcceleratorConfig: dict[str, Any] | None = None


class CodeModel(WireModel):
    """Where the code comes from."""

    ZipFile: str | None = None
    S3Bucket: str | None = None
    S3Key: str | None = None
    S3ObjectVersion: str | None = None
    S3ObjectStorageMode: str | None = None
    ImageUri: str | None = None
    SourceKMSKeyArn: str | None = None


class CreateFunctionRequest(ConfigurationModel):
    """The body of CreateFunction."""

    FunctionName: str | None = None
    Code: CodeModel | None = None
    Publish: bool = False
    PublishTo: str | None = None
    PackageType: str | None = None
    Tags: dict[str, str] | None = None
    CodeSigningConfigArn: str | None = None
    Architectures: list[str] | None = None
    TenancyConfig: dict[str, Any] | None = None

    def to_new_function(self, account: str, region: str, name: str) -> NewFunction:
        """Return the function asked for. Raises LambdaError for whatever Lambda would not accept."""
        members = self.members()
        check_rules(members)
        _refuse(members, _REFUSED)
        _refuse_kinds(members)
        if not self.Runtime or not self.Handler:
            raise errors.InvalidParameterValueError(errors.RUNTIME_AND_HANDLER_MANDATORY)
        blank = Settings(runtime=self.Runtime, role=self.Role or "", handler=self.Handler)
        return NewFunction(
            account=account,
            region=region,
            name=name,
            settings=_applied(blank, members),
            zip_file=decode_zip((self.Code or CodeModel()).members()),
            tags=self.Tags or {},
            publish=self.Publish,
        )


class UpdateFunctionConfigurationRequest(ConfigurationModel):
    """The body of UpdateFunctionConfiguration."""

    RevisionId: str | None = None

    def check(self) -> None:
        """Raise LambdaError for whatever Lambda would not accept."""
        members = self.members()
        check_members(members)
        check_rules(members)
        _refuse(members, _REFUSED)
        _refuse_kinds(members)

    def change(self, settings: Settings) -> Settings:
        """Return `settings` with the members that the request names."""
        return _applied(settings, self.members())


class UpdateFunctionCodeRequest(CodeModel):
    """The body of UpdateFunctionCode."""

    Architectures: list[str] | None = None
    Publish: bool = False
    PublishTo: str | None = None
    DryRun: bool = False
    RevisionId: str | None = None

    def to_new_code(self) -> NewCode:
        """Return the code asked for. Raises LambdaError for whatever Lambda would not accept."""
        members = self.members()
        check_members(members)
        _refuse(members, _REFUSED)
        return NewCode(
            zip_file=decode_zip(members),
            architecture=self.Architectures[0] if self.Architectures else None,
            publish=self.Publish,
            dry_run=self.DryRun,
            revision_id=self.RevisionId,
        )


def decode_zip(code: Mapping[str, Any]) -> bytes:
    """Return the deployment package. Raises InvalidParameterValueError for other sources of code, or none."""
    _refuse(code, _CODE_REFUSED)
    if not code.get("ZipFile"):
        raise errors.InvalidParameterValueError(errors.CODE_MISSING)
    try:
        return base64.b64decode(code["ZipFile"], validate=True)
    except binascii.Error as error:
        raise errors.SerializationError(f"ZipFile is not base64: {error}") from error


def configuration(found: Found) -> dict[str, Any]:
    """Return the FunctionConfiguration of the version found."""
    function, version = found.function, found.version
    settings, package = version.release.settings, version.release.package
    shown: dict[str, Any] = {
        "FunctionName": function.name,
        "FunctionArn": found.arn,
        "Runtime": settings.runtime,
        "Role": settings.role,
        "Handler": settings.handler,
        "CodeSize": package.size_bytes,
        "Description": settings.description,
        "Timeout": settings.timeout_s,
        "MemorySize": settings.memory_mb,
        "LastModified": timestamp(version.modified_at),
        "CodeSha256": base64.b64encode(bytes.fromhex(package.sha256)).decode(),
        "Version": version.version,
        "RevisionId": version.revision_id,
        "PackageType": "Zip",
        "Architectures": [settings.architecture],
        "EphemeralStorage": {"Size": settings.ephemeral_storage_mb},
        **shown_members(settings.stored, function.name),
        **_state(version),
        "RuntimeVersionConfig": {"RuntimeVersionArn": _runtime_arn(function.region, settings.runtime)},
    }
    if settings.environment is not None:
        shown["Environment"] = {"Variables": dict(settings.environment)}
    return shown


def listed(function: Function, version: FunctionVersion, *, is_qualified: bool) -> dict[str, Any]:
    """Return the subset of FunctionConfiguration that lists have."""
    shown = configuration(Found(function=function, version=version, is_qualified=is_qualified))
    return {name: value for name, value in shown.items() if name not in _STATE_MEMBERS}


def function_page(rows: Sequence[tuple[Function, FunctionVersion]], size: int, *, is_qualified: bool) -> dict[str, Any]:
    """Return the ListFunctionsResponse; a row beyond `size` tells that another page follows."""
    page = rows[:size]
    shown: dict[str, Any] = {"Functions": [listed(*row, is_qualified=is_qualified) for row in page]}
    if len(rows) > size:
        function, version = page[-1]
        shown["NextMarker"] = marker(function.name, version_number(version))
    return shown


def description_of(found: Found, code_url: str) -> dict[str, Any]:
    """Return the GetFunctionResponse."""
    shown: dict[str, Any] = {
        "Configuration": configuration(found),
        "Code": {"RepositoryType": "S3", "Location": code_url},
    }
    if found.function.tags:
        shown["Tags"] = dict(found.function.tags)
    if found.function.reserved_concurrency is not None:
        shown["Concurrency"] = {"ReservedConcurrentExecutions": found.function.reserved_concurrency}
    return shown


def timestamp(at: datetime) -> str:
    """Return an instant (UTC) in Lambda's form: 2026-01-31T12:00:00.000+0000."""
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}+0000"


def _state(version: FunctionVersion) -> dict[str, Any]:
    shown: dict[str, Any] = {"State": version.state.value}
    if version.state_reason is not None:
        shown["StateReason"] = version.state_reason.reason
        shown["StateReasonCode"] = version.state_reason.reason_code
    if version.update_status is not None:
        shown["LastUpdateStatus"] = version.update_status.value
    if version.update_reason is not None:
        shown["LastUpdateStatusReason"] = version.update_reason.reason
        shown["LastUpdateStatusReasonCode"] = version.update_reason.reason_code
    return shown


def _runtime_arn(region: str, runtime: str) -> str:
    digest = hashlib.sha256(f"lambdock:{runtime}".encode()).hexdigest()
    return f"arn:{partition_of(region)}:lambda:{region}::runtime:{digest}"


def _applied(settings: Settings, members: Mapping[str, Any]) -> Settings:
    simple = {
        "Runtime": "runtime",
        "Role": "role",
        "Handler": "handler",
        "Description": "description",
        "Timeout": "timeout_s",
        "MemorySize": "memory_mb",
    }
    changes: dict[str, Any] = {field: members[name] for name, field in simple.items() if name in members}
    if "Environment" in members:
        changes["environment"] = members["Environment"].get("Variables") or {}
    if "EphemeralStorage" in members:
        changes["ephemeral_storage_mb"] = members["EphemeralStorage"]["Size"]
    if members.get("Architectures"):
        changes["architecture"] = members["Architectures"][0]
    if "LoggingConfig" in members:
        changes["log_group"] = members["LoggingConfig"].get("LogGroup") or ""
    return replace(settings, **changes, stored={**settings.stored, **stored_members(members)})


def _refuse(members: Mapping[str, Any], refused: Mapping[str, str]) -> None:
    for name, supported in refused.items():
        if members.get(name):
            raise errors.not_supported(name, supported)


def _refuse_kinds(members: Mapping[str, Any]) -> None:
    if members.get("PackageType") == "Image":
        raise errors.not_supported("PackageType Image", "use Zip with an inline ZipFile")
    if members.get("Layers"):
        raise errors.not_supported("Layers", "include the libraries in the deployment package")
