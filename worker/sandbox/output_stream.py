"""What a container writes, as the engine hands it on: frames of two streams, out of which markers are taken. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

STDOUT, STDERR = 1, 2
_HEADER_BYTES = 8
#: Of a line that has not ended; longer ones are handed on in parts.
_LONGEST_HELD_BYTES = 65_536
#: What the engine's init process says, and then exits with 126 or 127, when it can't become the program.
_NOT_EXECUTED = re.compile(rb"\A\[FATAL tini \(\d+\)\] exec (?P<program>.+) failed: (?P<reason>[^\n]+)\n\Z", re.DOTALL)
_NOT_FOUND = "No such file or directory"


class Frames:
    """Takes the engine's framing off: 8 bytes of stream number and length before each piece."""

    def __init__(self) -> None:
        self._header = b""
        self._stream = STDOUT
        self._left_bytes = 0

    def take(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Return the pieces in `data`, cut anywhere, each with its stream."""
        at = 0
        while at < len(data):
            if self._left_bytes == 0:
                part = data[at : at + _HEADER_BYTES - len(self._header)]
                self._header += part
                at += len(part)
                if len(self._header) == _HEADER_BYTES:
                    self._stream, self._left_bytes = self._header[0], int.from_bytes(self._header[4:], "big")
                    self._header = b""
                continue
            piece = data[at : at + self._left_bytes]
            at += len(piece)
            self._left_bytes -= len(piece)
            yield self._stream, piece


class MarkedLines:
    """One stream: hands on whole lines, so that two streams never mix within one, and finds markers.

    A marker is a byte string that nobody else can know; it may stand anywhere, also within a line.
    """

    def __init__(self) -> None:
        self._held = b""
        self._markers: list[bytes] = []

    @property
    def is_marked(self) -> bool:
        """Whether all markers that were expected have come."""
        return not self._markers

    def expect(self, marker: bytes) -> None:
        """Take `marker` (without line breaks) out when it comes, and all before it is handed on."""
        self._markers.append(marker)

    def take(self, data: bytes) -> bytes:
        """Return what is to be handed on now."""
        out = b""
        data = self._held + data
        for marker in tuple(self._markers):
            before, found, after = data.partition(marker)
            if not found:
                break
            out += before
            data = after
            self._markers.remove(marker)
        cut = data.rfind(b"\n") + 1
        out, held = out + data[:cut], data[cut:]
        # The beginning of a marker must not go.
        kept = max(map(len, self._markers), default=0)
        if len(held) > _LONGEST_HELD_BYTES + kept:
            cut = len(held) - kept
            out, held = out + held[:cut], held[cut:]
        self._held = held
        return out

    def rest(self) -> bytes:
        """Return what is held, as nothing more comes."""
        held, self._held = self._held, b""
        return held


def not_executed(output: bytes) -> str:
    """Say in Lambda's words why a program was not executed, given all that its container wrote; empty: it was."""
    found = _NOT_EXECUTED.match(output)
    if found is None:
        return ""
    program, reason = (found[name].decode(errors="replace") for name in ("program", "reason"))
    if "/" not in program and reason == _NOT_FOUND:
        return f'exec: "{program}": executable file not found in $PATH'
    return f"fork/exec {program}: {reason[0].lower()}{reason[1:]}"
