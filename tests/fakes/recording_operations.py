"""Redis as the parts of a worker and of a controller see it, without Redis: answers as told, and remembers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

from contract.bus.operations import Completion, WorkerState, WorkerView
from contract.keys import Keys


class RecordingBus:
    """A bus whose streams are queues that tests fill, and whose commands answer what `answers` holds."""

    def __init__(self) -> None:
        self.keys = Keys("test")
        self.run_id = "server-1"
        self.connection_count = 1
        self.commands: list[tuple[Any, ...]] = []
        #: By the first words of a command, longest first: a value, an exception, or a list to take one after another.
        self.answers: dict[str, Any] = {}
        self._streams: dict[str, asyncio.Queue[tuple[bytes, Sequence[bytes]]]] = {}
        self._count = 0

    @property
    def link(self) -> str:
        return f"{self.run_id}/{self.connection_count}"

    async def sync_to_disk(self, wait_ms: int) -> Any:
        return await self.command("WAITAOF", 1, 0, wait_ms)

    async def command(self, *words: Any, retry_s: float = 8.0) -> Any:
        del retry_s
        self.commands.append(words)
        line = " ".join(str(word) for word in words)
        for start in sorted(self.answers, key=len, reverse=True):
            if line.startswith(start):
                answer = self.answers[start]
                if isinstance(answer, list) and answer and isinstance(answer[0], Step):
                    answer = answer.pop(0).value
                if isinstance(answer, Exception):
                    raise answer
                return answer() if callable(answer) else answer
        return None

    def push(self, stream: str, *entry: bytes) -> None:
        """Append an entry (names and values in turn)."""
        self._count += 1
        self._stream(stream).put_nowait((b"%d-0" % self._count, entry))

    async def read(self, stream: str, cursor: bytes) -> AsyncIterator[tuple[bytes, Sequence[bytes]]]:
        del cursor
        queue = self._stream(stream)
        while True:
            batch = [await queue.get()]
            while not queue.empty():
                batch.append(queue.get_nowait())
            for entry in batch:
                yield entry

    def _stream(self, name: str) -> asyncio.Queue[tuple[bytes, Sequence[bytes]]]:
        return self._streams.setdefault(name, asyncio.Queue())


class Step:
    """One of several answers to the same command."""

    def __init__(self, value: Any) -> None:
        self.value = value


class RecordingOperations:
    """Operations on idle tokens and reservations that are counted as the scripts count them; the rest is told."""

    def __init__(self) -> None:
        self.bus = RecordingBus()
        self.tokens: Counter[str] = Counter()
        self.released: list[str] = []
        self.completed: list[dict[str, Any]] = []
        self.handed_back: list[str] = []
        self.beats: list[tuple[bool, bool]] = []
        self.views: list[WorkerView] = []
        self.completion: Completion | Exception = Completion.IDLE
        self.handback_answer: str | Exception = "moved"
        self.states: list[WorkerState | Exception] = []
        self.failures: list[Exception] = []
        #: Called within `reconcile`: to change something behind its back.
        self.on_reconcile: Any = None

    async def release(self, instance: str, *reservations: str) -> int:
        del instance
        if self.failures:
            raise self.failures.pop(0)
        self.released += reservations
        return len(reservations)

    async def retire_idle(self, instance: str, version_key: str, memory_mb: int) -> bool:
        del instance, memory_mb
        await asyncio.sleep(0)
        if not self.tokens[version_key]:
            return False
        self.tokens[version_key] -= 1
        return True

    async def complete(self, instance: str, invocation_id: str, **told: Any) -> Completion:
        self.completed.append({"instance": instance, "id": invocation_id, **told})
        if isinstance(self.completion, Exception):
            raise self.completion
        return self.completion if told["is_reusable"] else Completion.DESTROY

    async def handback(self, instance: str, invocation_id: str, header: bytes, payload: bytes, launch: bytes) -> str:
        del instance, header, payload, launch
        self.handed_back.append(invocation_id)
        if isinstance(self.handback_answer, Exception):
            raise self.handback_answer
        return self.handback_answer

    async def heartbeat(self, instance: str, *, is_placeable: bool, is_draining: bool, info: bytes) -> WorkerState:
        del instance, info
        self.beats.append((is_placeable, is_draining))
        answer = self.states.pop(0) if self.states else None
        if isinstance(answer, Exception):
            raise answer
        return answer or (WorkerState.DRAINING if is_draining else WorkerState.LIVE)

    async def reconcile(self, instance: str, view: WorkerView, header: bytes) -> WorkerState:
        del instance, header
        self.views.append(view)
        if self.on_reconcile is not None:
            self.on_reconcile()
        return WorkerState.LIVE
