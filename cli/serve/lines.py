"""Output of a child as lines: split from chunks, and kept in files of bounded size."""

from __future__ import annotations

from pathlib import Path

#: A longer line is cut into pieces of this size.
MAX_LINE_BYTES = 256 * 1024
#: Per file; one older file is kept beside it.
MAX_LOG_BYTES = 16 * 1024 * 1024


class LineSplitter:
    """Turns chunks into lines without their ends; holds at most `max_line` bytes back."""

    def __init__(self, max_line: int = MAX_LINE_BYTES) -> None:
        self._max_line = max_line
        self._rest = b""

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the lines that `chunk` completes."""
        *lines, rest = (self._rest + chunk).split(b"\n")
        while len(rest) >= self._max_line:
            lines.append(rest[: self._max_line])
            rest = rest[self._max_line :]
        self._rest = rest
        return lines

    def end(self) -> list[bytes]:
        """Return what was left without an end of line."""
        rest, self._rest = self._rest, b""
        return [rest] if rest else []


class BoundedLog:
    """A log file of at most `max_bytes`, and the one before it as `<name>.1`. Appends; owned by one writer."""

    def __init__(self, path: Path, max_bytes: int = MAX_LOG_BYTES) -> None:
        self._path = path
        self._max_bytes = max_bytes
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=0)
        self._size = self._file.tell()

    def write(self, line: bytes) -> None:
        """Append one line. Raises: `OSError`, for example when the disk is full."""
        if self._size and self._size + len(line) + 1 > self._max_bytes:
            self._file.close()
            self._path.replace(self._path.with_name(self._path.name + ".1"))
            self._file = self._path.open("ab", buffering=0)
            self._size = 0
        self._file.write(line + b"\n")
        self._size += len(line) + 1

    def close(self) -> None:
        """Close the file; what was written is in the kernel's hands."""
        self._file.close()
