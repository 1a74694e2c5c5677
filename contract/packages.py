"""Deployment packages: what a zip must be to be accepted, and the only way in which one is unpacked.

Nothing that a zip says about itself is believed. Names, kinds and links are checked before anything is written; sizes
are counted while decompressing. The work is linear in the size of the archive: entries may not share bytes.
"""

from __future__ import annotations

import io
import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal

#: Lambda's limit for the contents of a package, and of a package with its layers.
MAX_UNZIPPED_BYTES = 262_144_000
#: Files, links and directories of one package. AWS names no limit; each costs an inode and about 1 KB to check.
MAX_ENTRIES = 200_000
#: PATH_MAX of Linux less the longest directory that packages are unpacked into.
MAX_PATH_BYTES = 3_072
MAX_NAME_BYTES = 255
#: Steps in resolving all links of one package; far above what any package manager makes.
MAX_LINK_STEPS = 2_000_000
#: The kernel's own limit; it refuses to follow a longer chain, so that it leads nowhere.
MAX_LINK_HOPS = 40

PackageErrorKind = Literal["not_zip", "too_large_unzipped", "unsafe_path"]

_CENTRAL_SIGNATURE = b"PK\x01\x02"
_LOCAL_HEADER_BYTES = 30
_CHUNK_BYTES = 1 << 20
_ENCRYPTED_FLAGS = 0x1 | 0x40 | 0x2000
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class PackageError(ValueError):
    """The package is refused. `kind` chooses the answer to the client; the text says which entry and why."""

    def __init__(self, kind: PackageErrorKind, message: str) -> None:
        super().__init__(message)
        self.kind: PackageErrorKind = kind
        self.message = message


def verify_zip(source: bytes | Path, *, limit_bytes: int = MAX_UNZIPPED_BYTES) -> int:
    """Return how many bytes the package's files have together, after reading all of them. Raises PackageError.

    Blocks for about a second per 200 MB: call it in a thread.
    """
    with _opened(source) as (archive, plan):
        budget = _Budget(limit_bytes, plan.link_bytes)
        for entry in plan.files:
            for _ in _contents(archive, entry, budget):
                pass
        return budget.used_bytes


def unpack_zip(source: bytes | Path, destination: Path, *, limit_bytes: int = MAX_UNZIPPED_BYTES) -> int:
    """Unpack into `destination`, a directory that is new or empty; return the bytes written. Raises PackageError.

    Files become 0755 where the zip marks them executable for anybody, else 0644; directories 0755; links are made
    last. After an error, `destination` holds a part of the package, which the caller removes. Not synced to disk.
    Blocks: call it in a thread.
    """
    with _opened(source) as (archive, plan):
        budget = _Budget(limit_bytes, plan.link_bytes)
        destination.mkdir(exist_ok=True)
        destination.chmod(0o755)
        for directory in sorted(plan.directories):
            path = destination / directory
            path.mkdir()
            path.chmod(0o755)
        for entry in plan.files:
            _write_file(archive, entry, destination, budget)
        for name, target in plan.links.items():
            os.symlink(target, destination / name)
        return budget.used_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    info: zipfile.ZipInfo
    path: str
    is_executable: bool


@dataclass(slots=True)
class _Plan:
    """What an archive would make, by normalised path relative to the package's root."""

    files: list[_File] = field(default_factory=list)
    links: dict[str, str] = field(default_factory=dict)
    directories: set[str] = field(default_factory=set)
    #: Paths of files and links.
    leaves: set[str] = field(default_factory=set)
    link_bytes: int = 0


@dataclass(slots=True)
class _Budget:
    limit_bytes: int
    used_bytes: int

    def take(self, count: int) -> None:
        self.used_bytes += count
        if self.used_bytes > self.limit_bytes:
            raise PackageError(
                "too_large_unzipped", f"the package unzips to more than {self.limit_bytes} bytes; make it smaller"
            )


@contextmanager
def _opened(source: bytes | Path) -> Iterator[tuple[zipfile.ZipFile, _Plan]]:
    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as stream:
        _check_entry_count(stream)
        with _malformed_is_an_error(), zipfile.ZipFile(stream) as archive:
            plan = _plan(archive)
            yield archive, plan


@contextmanager
def _malformed_is_an_error(entry: str = "") -> Iterator[None]:
    """Turn what zipfile raises for malformed archives into PackageError; errors of our own disk pass."""
    try:
        yield
    except PackageError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise _not_zip(entry, error) from error
    except (struct.error, ValueError, OverflowError, IndexError) as error:
        raise _not_zip(entry, error) from error


def _not_zip(entry: str, error: Exception) -> PackageError:
    where = f"its entry {_shown(entry)}" if entry else "the archive"
    return PackageError("not_zip", f"not a readable zip file: {where} is damaged or incomplete: {error}")


def _check_entry_count(stream: BinaryIO) -> None:
    """Refuse too many entries before zipfile makes an object of each: every one begins with this signature."""
    count, tail = 0, b""
    while chunk := stream.read(_CHUNK_BYTES):
        count += (tail + chunk).count(_CENTRAL_SIGNATURE)
        tail = chunk[-len(_CENTRAL_SIGNATURE) + 1 :]
        if count > MAX_ENTRIES:
            raise _too_many()
    stream.seek(0)


def _too_many() -> PackageError:
    return PackageError("too_large_unzipped", f"the package has more than {MAX_ENTRIES} files and directories")


def _plan(archive: zipfile.ZipFile) -> _Plan:
    infos = archive.infolist()
    size = archive.fp.seek(0, io.SEEK_END) if archive.fp is not None else 0
    if not infos:
        raise PackageError("not_zip", "the zip file is empty; it must contain the function's code")
    _check_entries_share_nothing(infos, size)
    plan = _Plan()
    for info in infos:
        _add(plan, archive, info)
    _check_links(plan)
    return plan


def _check_entries_share_nothing(infos: list[zipfile.ZipInfo], archive_bytes: int) -> None:
    """Entries that overlap let kilobytes unzip to gigabytes, and make reading quadratic."""
    end = 0  # of the entry before
    for info in sorted(infos, key=lambda item: item.header_offset):
        if info.header_offset < end:
            raise PackageError("not_zip", f"the zip file's entry {_shown(info.filename)} overlaps another one")
        end = info.header_offset + _LOCAL_HEADER_BYTES + len(info.orig_filename) + info.compress_size
    if end > archive_bytes:
        raise PackageError(
            "not_zip", f"the zip file has {archive_bytes} bytes, its entries claim {end}: upload it again"
        )


def _add(plan: _Plan, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
    name = info.orig_filename
    if info.flag_bits & _ENCRYPTED_FLAGS:
        raise PackageError("not_zip", f"the zip file's entry {_shown(name)} is encrypted; packages must not be")
    if info.compress_type not in _METHODS:
        raise PackageError(
            "not_zip",
            f"the zip file's entry {_shown(name)} uses compression method {info.compress_type}; "
            "only 0 (stored) and 8 (deflated) are supported",
        )
    path = _safe_path(name)
    mode = info.external_attr >> 16
    match _kind(info, mode):
        case "directory":
            if info.file_size:
                raise PackageError("unsafe_path", f"the entry {_shown(name)} is a directory that has contents")
            _add_directories(plan, path)
        case "file":
            _add_leaf(plan, path)
            plan.files.append(_File(info=info, path=path, is_executable=bool(mode & 0o111)))
        case "link":
            _add_leaf(plan, path)
            plan.links[path] = _link_target(archive, info)
            plan.link_bytes += info.file_size
        case other:
            raise PackageError("unsafe_path", f"the entry {_shown(name)} is {other}; only files, directories and links")


def _kind(info: zipfile.ZipInfo, mode: int) -> str:
    kind = stat.S_IFMT(mode)
    if kind == stat.S_IFLNK:
        return "link"
    if kind == stat.S_IFDIR or info.orig_filename.endswith("/"):
        return "directory"
    # 0o100000 is a regular file; zips made on other systems, and by plain writers, store no kind.
    return "file" if kind in (0, stat.S_IFREG) else "a device, socket or FIFO"


def _safe_path(name: str) -> str:
    """Normalise an entry's name; raise for one that could reach outside the package on any system."""
    problem = ""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if "\0" in name:
        problem = "contains a NUL character"
    elif "\\" in name:
        problem = "contains a backslash; separate directories by '/'"
    elif name.startswith("/"):
        problem = "is absolute"
    elif re.match(r"[A-Za-z]:", name):
        problem = "begins with a drive letter"
    elif ".." in parts:
        problem = "contains '..'"
    elif len(name.encode(errors="replace")) > MAX_PATH_BYTES:
        problem = f"is longer than {MAX_PATH_BYTES} bytes"
    elif any(len(part.encode(errors="replace")) > MAX_NAME_BYTES for part in parts):
        problem = f"has a part longer than {MAX_NAME_BYTES} bytes"
    elif not parts and not name.endswith(("/", ".")):
        problem = "is empty"
    if problem:
        raise PackageError("unsafe_path", f"the entry name {_shown(name)} {problem}")
    return "/".join(parts)


def _add_leaf(plan: _Plan, path: str) -> None:
    if not path:
        raise PackageError("unsafe_path", "an entry that is not a directory names the package's root")
    if path in plan.leaves:
        raise PackageError("unsafe_path", f"the entry {_shown(path)} is there twice")
    if path in plan.directories:
        raise PackageError("unsafe_path", f"the entry {_shown(path)} is a directory and something else as well")
    _add_directories(plan, path.rpartition("/")[0])
    plan.leaves.add(path)
    _check_total(plan)


def _add_directories(plan: _Plan, path: str) -> None:
    """Note a directory and those above it. None may be a file or a link: nothing is written through a link."""
    while path and path not in plan.directories:
        if path in plan.leaves:
            raise PackageError("unsafe_path", f"the entry {_shown(path)} is a directory and something else as well")
        plan.directories.add(path)
        _check_total(plan)
        path = path.rpartition("/")[0]


def _check_total(plan: _Plan) -> None:
    if len(plan.leaves) + len(plan.directories) > MAX_ENTRIES:
        raise _too_many()


def _link_target(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> str:
    name = info.orig_filename
    if info.file_size > MAX_PATH_BYTES:
        raise PackageError("unsafe_path", f"the link {_shown(name)} has a target longer than {MAX_PATH_BYTES} bytes")
    with _malformed_is_an_error(name), archive.open(info) as stream:
        target = os.fsdecode(stream.read())
    if not target or "\0" in target or target.startswith("/"):
        raise PackageError(
            "unsafe_path", f"the link {_shown(name)} points to {_shown(target)}; only relative links are allowed"
        )
    return target


def _check_links(plan: _Plan) -> None:
    steps = 0
    for link in plan.links:
        steps += _follow(plan, link, MAX_LINK_STEPS - steps)


def _follow(plan: _Plan, link: str, steps_left: int) -> int:
    """Follow a link as the kernel would, through other links, and refuse it when it climbs out of the package.

    Reading targets one by one would not do: `a/b/up -> ../..` stays inside, and so seems `x -> a/b/up/..`.
    Returns the number of steps.
    """
    here: list[str] = []
    ahead = link.split("/")[::-1]
    hops = steps = 0
    while ahead:
        part = ahead.pop()
        steps += 1
        if steps > steps_left:
            raise PackageError("unsafe_path", "the package's links are too intricate to be checked")
        if part in ("", "."):
            continue
        if part == "..":
            if not here:
                raise PackageError(
                    "unsafe_path", f"the link {_shown(link)} -> {_shown(plan.links[link])} leaves the package"
                )
            here.pop()
            continue
        here.append(part)
        target = plan.links.get("/".join(here))
        if target is not None:
            hops += 1
            if hops > MAX_LINK_HOPS:
                break
            here.pop()
            ahead.extend(target.split("/")[::-1])
            steps += len(ahead)
    return steps


def _contents(archive: zipfile.ZipFile, entry: _File, budget: _Budget) -> Iterator[bytes]:
    size = 0
    with _malformed_is_an_error(entry.path), archive.open(entry.info) as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            size += len(chunk)
            budget.take(len(chunk))
            yield chunk
    if size != entry.info.file_size:
        raise PackageError(
            "not_zip", f"the entry {_shown(entry.path)} has {size} bytes where {entry.info.file_size} are declared"
        )


def _write_file(archive: zipfile.ZipFile, entry: _File, destination: Path, budget: _Budget) -> None:
    mode = 0o755 if entry.is_executable else 0o644
    handle = os.open(destination / entry.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with open(handle, "wb", buffering=0) as file:
        os.fchmod(handle, mode)
        for chunk in _contents(archive, entry, budget):
            file.write(chunk)


def _shown(name: str) -> str:
    """Show a name from the archive in a message: printable, and short."""
    return repr(name if len(name) <= 100 else f"{name[:100]}…")
