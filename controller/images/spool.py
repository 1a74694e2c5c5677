"""Where an archive lies while it is looked at: a file without a name, gone with the process whatever happens."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO, Final

from controller.images.archive import ArchiveError, Index, Region
from controller.images.tar import TarError, TarScanner

#: Written at a time: a hop to a thread costs more than copying a network packet.
_PIECE: Final = 1 << 20
#: A sender that is silent for so long is given up: others may wait for its turn.
IDLE_DEADLINE_S: Final = 60.0


class ArchiveTooLongError(ArchiveError):
    """More is sent than the largest image's archive has."""


@asynccontextmanager
async def unnamed_file(directory: Path) -> AsyncIterator[BinaryIO]:
    """Open a new file that no name leads to; its bytes are freed when it is closed, by a crash too."""
    directory.mkdir(parents=True, exist_ok=True)
    file: BinaryIO = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 - closed below
    try:
        yield file
    finally:
        # In a thread: freeing gigabytes takes seconds.
        await asyncio.to_thread(file.close)


def path_of(file: BinaryIO) -> Path:
    """Return a path by which this process may open the file anew."""
    return Path(f"/proc/self/fd/{file.fileno()}")


async def receive(body: AsyncIterator[bytes], file: BinaryIO, *, limit_bytes: int) -> Index:
    """Write an archive to `file` as it arrives, and return its members. Raises ArchiveError as soon as it is known.

    In bounded memory; what the sender sends faster than the disk takes waits in the network.
    """
    index = Index()
    scanner = TarScanner(index.add)
    received = 0

    def take(piece: bytes) -> None:
        file.write(piece)
        scanner.feed(piece)

    try:
        async for piece in _pieces(body):
            received += len(piece)
            if received > limit_bytes:
                raise ArchiveTooLongError(
                    f"the archive has more than {limit_bytes} bytes; no image that fits needs so many"
                )
            await asyncio.to_thread(take, piece)
        scanner.close()
    except TarError as error:
        raise ArchiveError(f"the archive is not a complete tar file, as 'docker save' writes it: {error}") from error
    await asyncio.to_thread(file.flush)
    return index


async def _pieces(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    held = bytearray()
    packets = aiter(body)
    while True:
        try:
            async with asyncio.timeout(IDLE_DEADLINE_S):
                held += await anext(packets)
        except StopAsyncIteration:
            break
        except TimeoutError as error:
            raise ArchiveError(f"nothing more of the archive came for {IDLE_DEADLINE_S:g} s") from error
        if len(held) >= _PIECE:
            yield bytes(held)
            held.clear()
    if held:
        yield bytes(held)


def copy_region(source: BinaryIO, region: Region, target: BinaryIO) -> None:
    """Append a part of one file to another. Blocks."""
    source.seek(region.offset)
    left = region.size_bytes
    while left:
        piece = source.read(min(_PIECE, left))
        if not piece:
            raise OSError(f"the spooled archive ends {left} bytes early")
        target.write(piece)
        left -= len(piece)
    target.flush()
