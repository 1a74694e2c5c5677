"""What must be at hand on a worker before an environment of a version can be started."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from worker.images.inspected import FunctionImage


@dataclass(frozen=True, slots=True, kw_only=True)
class Provisions:
    """Images and trees for one launch, all present on this worker and its engine."""

    #: What the engine calls the image: the runtime's, or the function's own.
    image: str
    #: The unpacked package; None for container images.
    code_dir: Path | None = None
    #: The merged layers; None without any.
    layers_dir: Path | None = None
    #: For container images: see `SandboxSpec.holder_image`.
    holder_image: str = ""
    #: For container images: what theirs says of its own process.
    function_image: FunctionImage | None = None
