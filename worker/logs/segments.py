"""The files of one function's log: two segments of records, the older one dropped when the newer one is full.

A record is a header line `{at_ms} {length} {stream}` and `length` bytes of whole lines. All of it blocks: only
`LogStore` calls it, in threads, one call at a time for each function.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

#: Longer messages are cut: CloudWatch's limit for one event.
MAX_MESSAGE_BYTES = 262_144
_MAX_HEADER_BYTES = 1_024
_SUFFIX = ".log"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEvent:
    """One line of a function's log."""

    #: When the worker read it, in milliseconds since 1970.
    at_ms: int
    stream: str
    #: Without its line break; undecodable bytes are replaced.
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """A place between two events of one function's log."""

    segment: int
    offset: int
    #: Lines of the record at `offset` that lie before the cursor.
    line: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Lines that arrived together from one environment."""

    at_ms: int
    stream: str
    #: Whole lines.
    data: bytes


class SegmentLog:
    """Appends to and reads from the directory of one function. `limit_bytes` bounds both segments together."""

    def __init__(self, directory: Path, limit_bytes: int) -> None:
        self._directory = directory
        self._segment_limit_bytes = limit_bytes // 2
        self._current = -1
        self._size_bytes = 0

    def append(self, records: list[Record]) -> None:
        """Write the records, as far as the newer segment's limit allows, then go on in a new one. Raises OSError."""
        if self._current < 0:
            self._recover()
        pending: list[bytes] = []
        pending_bytes = 0
        for record in records:
            for at in range(0, len(record.data), MAX_MESSAGE_BYTES):
                data = record.data[at : at + MAX_MESSAGE_BYTES]
                encoded = f"{record.at_ms} {len(data)} {record.stream}\n".encode() + data
                if self._size_bytes + pending_bytes + len(encoded) > self._segment_limit_bytes and (
                    self._size_bytes + pending_bytes
                ):
                    self._write(pending)
                    pending, pending_bytes = [], 0
                    self._rotate()
                pending.append(encoded)
                pending_bytes += len(encoded)
        self._write(pending)

    def read(self, after: Cursor | None, limit: int) -> tuple[list[LogEvent], Cursor | None]:
        """Return up to `limit` events after the cursor, oldest first, and the cursor behind them."""
        events: list[LogEvent] = []
        cursor = after
        for segment in self._segments():
            if cursor is not None and segment < cursor.segment:
                continue
            start = cursor if cursor is not None and cursor.segment == segment else Cursor(segment=segment, offset=0)
            cursor = self._read_segment(start, limit, events)
            if len(events) >= limit:
                break
        return events, cursor

    def _read_segment(self, start: Cursor, limit: int, events: list[LogEvent]) -> Cursor:
        skip = start.line
        offset = start.offset
        try:
            file = self._path(start.segment).open("rb")
        except FileNotFoundError:  # rotated away meanwhile
            return start
        with file:
            file.seek(offset)
            for record, end in _records(file, offset):
                lines = _lines(record.data)
                for number, line in enumerate(lines[skip:], start=skip):
                    if len(events) >= limit:
                        return Cursor(segment=start.segment, offset=offset, line=number)
                    message = line.decode(errors="replace")
                    events.append(LogEvent(at_ms=record.at_ms, stream=record.stream, message=message))
                offset, skip = end, 0
        return Cursor(segment=start.segment, offset=offset)

    def delete(self) -> None:
        """Remove the log. No error when there is none."""
        shutil.rmtree(self._directory, ignore_errors=True)
        self._current, self._size_bytes = -1, 0

    def _recover(self) -> None:
        """Find the newest segment, and cut off the record that a crash tore."""
        self._directory.mkdir(parents=True, exist_ok=True)
        segments = self._segments()
        self._current = segments[-1] if segments else 0
        self._size_bytes = 0
        path = self._path(self._current)
        if path.exists():
            with path.open("rb") as file:
                for _, end in _records(file, 0):
                    self._size_bytes = end
            os.truncate(path, self._size_bytes)
        self._drop_old()

    def _rotate(self) -> None:
        self._current += 1
        self._size_bytes = 0
        self._drop_old()

    def _drop_old(self) -> None:
        for segment in self._segments():
            if segment < self._current - 1:
                self._path(segment).unlink(missing_ok=True)

    def _write(self, encoded: list[bytes]) -> None:
        if not encoded:
            return
        data = b"".join(encoded)
        try:
            with self._path(self._current).open("ab", buffering=0) as file:
                written = file.write(data)
                if written != len(data):
                    raise OSError(f"wrote {written} of {len(data)} bytes to {file.name}: the disk is full")
        except OSError:
            # What was half written is cut off before the next append.
            self._current = -1
            raise
        self._size_bytes += len(data)

    def _segments(self) -> list[int]:
        try:
            paths = list(self._directory.iterdir())
        except FileNotFoundError:
            return []
        return sorted(int(path.stem) for path in paths if path.suffix == _SUFFIX and path.stem.isdigit())

    def _path(self, segment: int) -> Path:
        return self._directory / f"{segment:012d}{_SUFFIX}"


def _records(file: BinaryIO, offset: int) -> Iterator[tuple[Record, int]]:
    """Yield whole records and where each ends; stop at the end, or at what is torn or being written."""
    while header := file.readline(_MAX_HEADER_BYTES):
        parts = header.split(b" ", 2)
        if len(parts) != 3 or not header.endswith(b"\n") or not parts[0].isdigit() or not parts[1].isdigit():
            return
        length = int(parts[1])
        if length > MAX_MESSAGE_BYTES:
            return
        data = file.read(length)
        if len(data) < length:
            return
        offset += len(header) + length
        yield Record(at_ms=int(parts[0]), stream=parts[2][:-1].decode(errors="replace"), data=data), offset


def _lines(data: bytes) -> list[bytes]:
    lines = data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    return lines
