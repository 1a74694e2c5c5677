"""When something changed, and the RevisionId that the change made."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """One mutation's instant and new RevisionId."""

    at: datetime
    revision_id: str


#: Makes a fresh stamp per call; injected, so that tests decide the time.
StampSource = Callable[[], Stamp]


def system_stamp() -> Stamp:
    """Stamp with the system's clock and a random id."""
    return Stamp(at=datetime.now(UTC), revision_id=str(uuid.uuid4()))
