"""What a worker must know to start an environment of one function version."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields

import orjson


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchSpec:
    """One function version, as a worker launches it. Immutable: an update makes another `version_key`.

    Carried with every dispatch, so that a worker needs no database. Readers ignore fields they do not know, and
    every field added later has a default: controllers and workers of neighbouring releases understand each other.
    """

    #: Names the environments that may serve this version: `{function_uid}:{version}`, and for `$LATEST`
    #: `{function_uid}:$LATEST:{generation}`, so that environments of an older head never match.
    version_key: str
    function_uid: str
    #: Rises with every update of the function that has taken effect; 1 for a new function.
    generation: int
    account: str
    region: str
    function_name: str
    #: `$LATEST` or a decimal version number.
    version: str
    #: Lambda's identifier (`python3.13`), a key of `runtimes/catalog.toml`; empty for container images.
    runtime: str
    handler: str
    #: Hex sha256 of the deployment package in the blob store; empty for container images.
    code_sha256: str
    architecture: str
    #: 128-10240.
    memory_mb: int
    #: 1-900.
    timeout_s: int
    #: Size of `/tmp`, 512-10240.
    ephemeral_storage_mb: int
    #: The function's own variables; the reserved ones are added by the worker.
    environment: dict[str, str] = field(default_factory=dict)
    log_group: str = ""
    #: Hex sha256 of the layers' archives in the blob store, in the order in which they are merged into `/opt`: later
    #: ones win. At most 5; none with container images.
    layers: list[str] = field(default_factory=list)
    #: The container image that is the function, empty for functions of an archive: as the caller wrote it until a
    #: worker has pinned it (only in preparations), then `name@sha256:digest`, as the engine pulls it.
    image_uri: str = ""
    #: Hex sha256 of the blob that describes a pushed image (`contract/images.py`); empty: a registry has the image.
    image_manifest: str = ""
    #: The function's ImageConfig: what replaces the image's own entry point, command and directory. Empty: nothing.
    entry_point: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    working_directory: str = ""

    @property
    def is_image(self) -> bool:
        """Whether the function is a container image rather than an archive on a managed runtime."""
        return bool(self.image_uri)

    def to_json(self) -> bytes:
        """Encode for the wire."""
        return orjson.dumps(asdict(self))

    @classmethod
    def from_json(cls, raw: bytes) -> LaunchSpec:
        """Decode what `to_json` of this or a neighbouring release made. Raises ValueError for anything else."""
        data = orjson.loads(raw)
        known = {item.name for item in fields(cls)}
        try:
            return cls(**{key: value for key, value in data.items() if key in known})
        except (TypeError, AttributeError) as error:
            raise ValueError(f"not a launch specification: {error}") from error
