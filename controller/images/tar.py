"""Reads a tar as it arrives, without believing it: where its members lie, and what unpacking it would write.

Not `tarfile`: that holds whatever an extended header claims to need in memory, and is read by pulling. This reads
headers only, in pieces of any size, in bounded memory. It agrees with the engine's own reader (Go's) on where members
begin and how large they come out; a tar that hides one from us would hide it from our limits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

BLOCK: Final = 512
#: Of one extended header or long name. Real ones are a few KB.
MAX_META_BYTES: Final = 1 << 20

Kind = Literal["file", "directory", "symlink", "hardlink", "other"]

_KINDS: Final[dict[bytes, Kind]] = {b"0": "file", b"\0": "file", b"7": "file", b"S": "file", b"1": "hardlink"}
_KINDS.update({b"2": "symlink", b"5": "directory"})
#: Their contents are never read, whatever size their header claims.
_WITHOUT_CONTENTS: Final = b"123456"
_ZERO: Final = bytes(BLOCK)


class TarError(ValueError):
    """Not a tar, or one that ends early; the text says what is wrong, and where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One member of a tar."""

    name: str
    kind: Kind
    #: Where a link points.
    target: str
    #: Where its contents begin.
    offset: int
    #: What is stored of its contents.
    size_bytes: int
    #: What unpacking it writes: more than is stored, for a sparse file.
    unpacked_bytes: int


class TarScanner:
    """Takes a tar in pieces by `feed`, tells of each member as soon as its header is complete; `close` at the end."""

    def __init__(self, on_member: Callable[[Member], None]) -> None:
        self._on_member = on_member
        #: What has been taken so far.
        self.position = 0
        #: A header, or an extended header's contents, as far as it has come.
        self._held = bytearray()
        #: How many bytes `_held` needs, and what to do with them then.
        self._wanted = BLOCK
        self._then: Callable[[bytes], None] = self._header
        self._skip = 0
        self._zeros = 0
        self._has_ended = False
        # What extended headers say about the next member.
        self._pax: dict[str, str] = {}
        self._long_name: str | None = None
        self._long_target: str | None = None

    def feed(self, piece: bytes | memoryview) -> None:
        """Take the next piece. Raises TarError, and is of no further use then."""
        view = memoryview(piece)
        while view and not self._has_ended:
            if self._skip:
                taken = min(self._skip, len(view))
                self._skip -= taken
            else:
                taken = min(self._wanted - len(self._held), len(view))
                self._held += view[:taken]
            self.position += taken
            view = view[taken:]
            if not self._skip and len(self._held) == self._wanted:
                held, then = bytes(self._held), self._then
                self._held.clear()
                self._wanted, self._then = BLOCK, self._header
                then(held)
        # What follows the end is padding, whatever it holds.
        self.position += len(view)

    def close(self) -> None:
        """Say that there is no more. Raises TarError where more was due."""
        if self._has_ended or (not self._skip and not self._held and self._then == self._header and not self._pending):
            return
        raise TarError(f"it ends after {self.position} bytes, in the middle of a member")

    @property
    def _pending(self) -> bool:
        return bool(self._pax) or self._long_name is not None or self._long_target is not None

    def _header(self, block: bytes) -> None:
        if block == _ZERO:
            self._zeros += 1
            # One zero block is an end too when nothing follows; two are one always.
            self._has_ended = self._zeros == 2
            return
        at = self.position - BLOCK
        if self._zeros:
            raise TarError(f"there is a single zero block before byte {at}")
        _check_sum(block, at)
        flag = block[156:157]
        size = _number(block[124:136], at)
        if flag in (b"x", b"g", b"L", b"K"):
            self._read_meta(flag, size, at)
            return
        if flag == b"S" and block[482]:
            # Further blocks list the holes; the contents begin behind them.
            sparse_bytes = _number(block[483:495], at)
            self._wanted, self._then = BLOCK, lambda more: self._sparse_map(more, block, size, sparse_bytes)
            return
        self._member(block, size, _number(block[483:495], at) if flag == b"S" else 0)

    def _sparse_map(self, more: bytes, block: bytes, size: int, sparse_bytes: int) -> None:
        if more[504]:
            self._wanted, self._then = BLOCK, lambda next_: self._sparse_map(next_, block, size, sparse_bytes)
            return
        self._member(block, size, sparse_bytes)

    def _member(self, block: bytes, size: int, sparse_bytes: int) -> None:
        flag, pax = block[156:157], self._pax
        size = _decimal(pax["size"]) if "size" in pax else size
        sparse_bytes = max(sparse_bytes, *(_decimal(pax.get(f"GNU.sparse.{key}", "0")) for key in ("size", "realsize")))
        name = self._long_name or pax.get("GNU.sparse.name") or pax.get("path") or _name(block)
        target = self._long_target or pax.get("linkpath") or _text(block[157:257])
        self._pax, self._long_name, self._long_target = {}, None, None
        kind = _KINDS.get(flag, "other")
        if kind == "file" and name.endswith("/") and flag == b"\0":
            kind = "directory"
        stored = 0 if flag in _WITHOUT_CONTENTS else size
        self._skip = -(-stored // BLOCK) * BLOCK
        member = Member(
            name=name,
            kind=kind,
            target=target if kind in ("symlink", "hardlink") else "",
            offset=self.position,
            size_bytes=stored,
            unpacked_bytes=max(stored, sparse_bytes),
        )
        self._on_member(member)

    def _read_meta(self, flag: bytes, size: int, at: int) -> None:
        if size > MAX_META_BYTES:
            raise TarError(f"the extended header at byte {at} claims {size} bytes; at most {MAX_META_BYTES} are read")
        if not size:
            return
        self._wanted = -(-size // BLOCK) * BLOCK
        self._then = lambda held: self._meta(flag, held[:size], at)

    def _meta(self, flag: bytes, content: bytes, at: int) -> None:
        if flag == b"x":
            # One after the other: the last one counts alone.
            self._pax = _pax_records(content, at)
        elif flag == b"L":
            self._long_name = _text(content)
        elif flag == b"K":
            self._long_target = _text(content)
        # Global headers (g) have no effect on other members in the engine's reader, so they have none here.


def _check_sum(block: bytes, at: int) -> None:
    # The sum counts its own field as spaces. Old writers summed signed bytes.
    field = block[148:156]
    unsigned = sum(block) - sum(field) + 8 * 32
    claimed = _number(field, at)
    if claimed == unsigned:
        return
    high = sum(1 for byte in block[:148] + block[156:] if byte > 127)
    if claimed != unsigned - 256 * high:
        raise TarError(f"what lies at byte {at} is no header of a tar")


def _number(field: bytes, at: int) -> int:
    if field[0] & 0x80:
        if field[0] & 0x40:
            raise TarError(f"the header at byte {at} has a negative number")
        number = int.from_bytes(bytes((field[0] & 0x7F,)) + field[1:], "big")
    else:
        digits = field.strip(b" \0").partition(b"\0")[0]
        try:
            number = int(digits or b"0", 8)
        except ValueError:
            raise TarError(f"the header at byte {at} has {field!r} where a number belongs") from None
    if not 0 <= number < 1 << 63:
        raise TarError(f"the header at byte {at} has the number {number}, which is out of range")
    return number


def _decimal(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise TarError(f"an extended header has {text[:40]!r} where a number belongs")
    return int(text)


def _name(block: bytes) -> str:
    name = _text(block[:100])
    # The old GNU format has other fields where ustar has the first part of the name.
    prefix = _text(block[345:500]) if block[257:263] == b"ustar\0" else ""
    return f"{prefix}/{name}" if prefix else name


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode(errors="surrogateescape")


def _pax_records(content: bytes, at: int) -> dict[str, str]:
    """Read `length key=value newline` records."""
    records: dict[str, str] = {}
    begin = 0
    while begin < len(content):
        space = content.find(b" ", begin, begin + 12)
        digits = content[begin:space] if space > 0 else b""
        end = begin + int(digits) if digits.isdigit() else 0
        key, equals, value = content[space + 1 : end - 1].partition(b"=")
        if end <= space + 1 or end > len(content) or content[end - 1 : end] != b"\n" or not equals:
            raise TarError(f"the extended header at byte {at} is malformed")
        records[key.decode(errors="replace")] = value.decode(errors="surrogateescape")
        begin = end
    return records
