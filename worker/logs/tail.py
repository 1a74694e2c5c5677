"""The end of what was written, for `LogType=Tail`."""

from __future__ import annotations

#: Lambda returns the last 4 KB.
TAIL_BYTES = 4_096


class TailBuffer:
    """Keeps the last `size_bytes` of what is added, whatever its amount."""

    def __init__(self, size_bytes: int = TAIL_BYTES) -> None:
        self._size_bytes = size_bytes
        self._kept = b""

    def add(self, data: bytes) -> None:
        """Append."""
        if len(data) >= self._size_bytes:
            self._kept = data[-self._size_bytes :]
        else:
            self._kept = (self._kept + data)[-self._size_bytes :]

    def clear(self) -> None:
        """Begin anew."""
        self._kept = b""

    def contents(self) -> bytes:
        """Return what is kept."""
        return self._kept
