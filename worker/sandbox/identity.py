"""Who a sandbox belongs to, and which user runs in it."""

from __future__ import annotations

import re
from dataclasses import dataclass

#: The numeric user and group that user code runs as; they need not exist in the image.
USER_ID = 993
GROUP_ID = 990

CELL_LABEL = "lambdock"
ENGINE_LABEL = "lambdock.engine"
WORKER_LABEL = "lambdock.worker"
EPOCH_LABEL = "lambdock.epoch"
ENVIRONMENT_LABEL = "lambdock.environment"

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The worker process, in one of its lives, that everything a driver makes is marked with."""

    cell: str
    #: The engine's own id (`docker info`).
    engine_id: str
    worker_id: str
    #: Rises with every start of the worker; what carries another one is a predecessor's.
    epoch: int

    def __post_init__(self) -> None:
        """Refuse names that could not be part of a path."""
        for what, name in (("cell", self.cell), ("worker id", self.worker_id)):
            if not _SAFE_NAME.fullmatch(name):
                raise ValueError(f"{what} {name!r} is not made of letters, digits, '.', '_' and '-'; choose another")

    @property
    def network(self) -> str:
        """Name of the bridge that all sandboxes of the cell on one engine sit on."""
        return f"lambdock-{self.cell}"

    @property
    def folder(self) -> str:
        """Relative path that holds this life's files, beside those of the worker's other lives."""
        return f"{self.cell}/{self.worker_id}/{self.epoch}"

    @property
    def instance(self) -> str:
        """What Redis calls this life."""
        return f"{self.worker_id}@{self.epoch}"

    def engine_filter(self) -> list[str]:
        """Return the engine's label filter for whatever any worker of the cell made on this engine."""
        return [f"{CELL_LABEL}={self.cell}", f"{ENGINE_LABEL}={self.engine_id}"]

    def life_filter(self) -> list[str]:
        """Return the engine's label filter for whatever this life made."""
        return [*self.worker_filter(), f"{EPOCH_LABEL}={self.epoch}"]

    def labels(self, environment_id: str) -> dict[str, str]:
        """Return the labels of everything made for one environment."""
        return {
            CELL_LABEL: self.cell,
            ENGINE_LABEL: self.engine_id,
            WORKER_LABEL: self.worker_id,
            EPOCH_LABEL: str(self.epoch),
            ENVIRONMENT_LABEL: environment_id,
        }

    def worker_filter(self) -> list[str]:
        """Return the engine's label filter for whatever any life of this worker made."""
        return [
            f"{CELL_LABEL}={self.cell}",
            f"{ENGINE_LABEL}={self.engine_id}",
            f"{WORKER_LABEL}={self.worker_id}",
        ]
