"""A request's body on its way from a function to a controller: passed on as it comes, never held whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final

#: Of a body that goes slower than it comes, so much waits here, and the rest in the function.
_HELD_BYTES: Final = 262_144
#: How long a body may stand still half-way.
_STALL_S: Final = 60.0


class Body:
    """What has come of a body, and not gone yet."""

    def __init__(self, on_taken: Callable[[], None]) -> None:
        """`on_taken` is called when there is room again."""
        self._on_taken = on_taken
        # Not a list of the pieces, which may be of one byte each.
        self._held = bytearray()
        self._came = asyncio.Event()
        self._is_unwanted = False
        self.is_whole = False

    @property
    def is_full(self) -> bool:
        """Whether no more should be read for now."""
        return len(self._held) >= _HELD_BYTES

    def add(self, piece: bytes) -> None:
        """A piece has come."""
        if not self._is_unwanted:
            self._held += piece
        self._came.set()

    def end(self) -> None:
        """It is whole."""
        self.is_whole = True
        self._came.set()

    def drop(self) -> None:
        """Nobody wants it, or what is left of it, any more."""
        self._is_unwanted = True
        self._held.clear()
        self._on_taken()

    async def whole(self) -> None:
        """Wait until all of it has come. Raises TimeoutError when it stands still."""
        while not self.is_whole:
            await self._more()

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield it as it comes. Raises TimeoutError when it stands still."""
        while True:
            if self._held:
                piece = bytes(self._held)
                self._held.clear()
                self._on_taken()
                yield piece
            elif self.is_whole:
                return
            else:
                await self._more()

    async def _more(self) -> None:
        self._came.clear()
        async with asyncio.timeout(_STALL_S):
            await self._came.wait()
