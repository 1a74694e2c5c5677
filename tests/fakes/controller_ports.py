"""Memory stand-ins for what the controller's services call: directory, preparation queue, clock."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

from controller.domain.function import FunctionHead
from controller.domain.stamp import Stamp


class MemoryDirectory:
    """A FunctionDirectory that keeps the port's contract, records every call, and fails on demand."""

    def __init__(self) -> None:
        self.heads: dict[str, FunctionHead] = {}
        self.retired: list[str] = []
        self.failure: Exception | None = None

    async def publish(self, head: FunctionHead) -> None:
        if self.failure is not None:
            raise self.failure
        held = self.heads.get(head.uid)
        generation = max(head.generation, held.generation if held is not None else 0)
        self.heads[head.uid] = FunctionHead(
            uid=head.uid,
            account=head.account,
            region=head.region,
            generation=generation,
            reserved_concurrency=head.reserved_concurrency,
        )

    async def retire(self, head: FunctionHead) -> None:
        if self.failure is not None:
            raise self.failure
        self.heads.pop(head.uid, None)
        self.retired.append(head.uid)

    async def retire_version(self, function_uid: str, version: str) -> None:
        if self.failure is not None:
            raise self.failure
        self.retired.append(f"{function_uid}:{version}")


class MemoryQueue:
    """A PreparationQueue that only remembers, and fails on demand."""

    def __init__(self) -> None:
        self.jobs: list[tuple[str, str, str]] = []
        self.failure: Exception | None = None

    async def enqueue(self, function_uid: str, version: str, revision_id: str) -> None:
        if self.failure is not None:
            raise self.failure
        self.jobs.append((function_uid, version, revision_id))


class TickingStamps:
    """Stamps a second apart, from a fixed instant."""

    def __init__(self) -> None:
        self._at = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)

    def __call__(self) -> Stamp:
        self._at += timedelta(seconds=1)
        return Stamp(at=self._at, revision_id=str(uuid.uuid4()))
