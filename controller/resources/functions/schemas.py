"""The wire form of functions in requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from controller.api.wire import WireModel
from controller.domain import errors
from controller.domain.release import ImageConfig, Settings
from controller.domain.validation import check_members, check_rules
from controller.packages.wire import S3_MEMBERS, ContentModel, package_source
from controller.resources.functions.code import CodeSource, ImageSource
from controller.resources.functions.service import NewCode, NewConfiguration, NewFunction
from controller.resources.functions.stored import stored_members

#: Members of the model that would change what runs, so that ignoring them would be wrong.
_REFUSED = {
    "TenancyConfig": "tenant isolation comes later",
    "CapacityProviderConfig": "functions run on this installation's own workers",
    "DurableConfig": "durable functions come later",
    "AcceleratorConfig": "accelerators are not offered",
    "RuntimeConfig": "use Runtime with one of Lambda's identifiers",
    "CodeSigningConfigArn": "code signing comes later",
    "PublishTo": "use Publish",
}
_CODE_REFUSED = {"SourceKMSKeyArn": "pass an unencrypted deployment package"}


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


class ImageConfigModel(WireModel):
    """What replaces an image's own entry point, command and directory."""

    EntryPoint: list[str] | None = None
    Command: list[str] | None = None
    WorkingDirectory: str | None = None


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
    ImageConfig: ImageConfigModel | None = None
    EphemeralStorage: EphemeralStorageModel | None = None
    SnapStart: SnapStartModel | None = None
    LoggingConfig: LoggingConfigModel | None = None
    CapacityProviderConfig: dict[str, Any] | None = None
    DurableConfig: dict[str, Any] | None = None
    RuntimeConfig: dict[str, Any] | None = None
    AcceleratorConfig: dict[str, Any] | None = None


class CodeModel(ContentModel):
    """Where the code comes from."""

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
        is_image = self.PackageType == "Image"
        if is_image and (self.Runtime or self.Handler or self.Layers):
            raise errors.InvalidParameterValueError(errors.ZIP_SETTINGS_FOR_IMAGE)
        if not is_image and not (self.Runtime and self.Handler):
            raise errors.InvalidParameterValueError(errors.RUNTIME_AND_HANDLER_MANDATORY)
        code = code_source((self.Code or CodeModel()).members(), is_image=is_image)
        blank = Settings(runtime=self.Runtime or "", role=self.Role or "", handler=self.Handler or "")
        return NewFunction(
            account=account,
            region=region,
            name=name,
            settings=_applied(blank, members),
            code=code,
            layers=tuple(self.Layers or ()),
            tags=self.Tags or {},
            publish=self.Publish,
        )


class UpdateFunctionConfigurationRequest(ConfigurationModel):
    """The body of UpdateFunctionConfiguration."""

    RevisionId: str | None = None

    def to_new_configuration(self) -> NewConfiguration:
        """Return the settings asked for. Raises LambdaError for whatever Lambda would not accept."""
        members = self.members()
        check_members(members)
        check_rules(members)
        _refuse(members, _REFUSED)
        return NewConfiguration(
            change=lambda settings: _applied(settings, members),
            layers=None if self.Layers is None else tuple(self.Layers),
            revision_id=self.RevisionId,
        )


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
            code=code_source(members),
            architecture=self.Architectures[0] if self.Architectures else None,
            publish=self.Publish,
            dry_run=self.DryRun,
            revision_id=self.RevisionId,
        )


def code_source(members: Mapping[str, Any], *, is_image: bool | None = None) -> CodeSource:
    """Return the source of code that the members name. Raises InvalidParameterValueError for two of them, or none.

    `is_image` is the package type asked for; None: whatever the function has, which is not known here.
    """
    _refuse(members, _CODE_REFUSED)
    uri = members.get("ImageUri")
    if uri and not members.get("ZipFile") and is_image is not False:
        if any(members.get(name) for name in S3_MEMBERS):
            raise errors.InvalidParameterValueError(errors.IMAGE_URI_ALONE)
        return ImageSource(uri=uri)
    if is_image:
        raise errors.InvalidParameterValueError(errors.IMAGE_URI_MISSING)
    source = package_source(members)
    if uri:
        raise errors.InvalidParameterValueError(errors.IMAGE_URI_FOR_ZIP)
    return source


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
    if "ImageConfig" in members:
        changes["image_config"] = _image_config(members["ImageConfig"])
    if "LoggingConfig" in members:
        changes["log_group"] = members["LoggingConfig"].get("LogGroup") or ""
    return replace(settings, **changes, stored={**settings.stored, **stored_members(members)})


def _image_config(members: Mapping[str, Any]) -> ImageConfig | None:
    config = ImageConfig(
        entry_point=tuple(members.get("EntryPoint") or ()),
        command=tuple(members.get("Command") or ()),
        working_directory=members.get("WorkingDirectory") or "",
    )
    # One that replaces nothing is how a caller removes it.
    return None if config == ImageConfig() else config


def _refuse(members: Mapping[str, Any], refused: Mapping[str, str]) -> None:
    for name, supported in refused.items():
        if members.get(name):
            raise errors.not_supported(name, supported)
