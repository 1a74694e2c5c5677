"""Keeps admission's directory in step with the store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from controller.domain.function import FunctionHead, head_of
from controller.resources.functions.ports import FunctionDirectory, FunctionStore

DIRECTORY_DEADLINE_S = 10.0
_PAGE = 500


class HeadPublisher:
    """Publishes heads so that the last one published is the one stored, whoever else publishes meanwhile."""

    def __init__(self, store: FunctionStore, directory: FunctionDirectory) -> None:
        self._store = store
        self._directory = directory

    async def publish_current(self, function_uid: str) -> None:
        """Publish what the store holds, until it has not changed meanwhile; retire a function that has gone.

        Two changes may overtake each other between store and directory. Each looks again after publishing, so the
        one that publishes last has published the newest.
        """
        published: FunctionHead | None = None
        while True:
            function = await self._store.get_by_uid(function_uid)
            if function is None:
                if published is not None:
                    await self.retire(published)
                return
            if head_of(function) == published:
                return
            published = head_of(function)
            await self.publish(published)

    async def publish(self, head: FunctionHead) -> None:
        """Publish one head, within a deadline. Raises what the directory raises, and TimeoutError."""
        async with asyncio.timeout(DIRECTORY_DEADLINE_S):
            await self._directory.publish(head)

    async def retire(self, head: FunctionHead) -> None:
        """Retire one head, within a deadline. Raises what the directory raises, and TimeoutError."""
        async with asyncio.timeout(DIRECTORY_DEADLINE_S):
            await self._directory.retire(head)

    async def publish_all(self) -> int:
        """Publish the head of every function of every account, and return how many there are.

        Each page is looked at again afterwards: a change that came meanwhile is published after what it changed.
        """
        after, count = "", 0
        while page := await self._store.page_by_uid(after=after, limit=_PAGE):
            heads = {function.uid: head_of(function) for function in page}
            await asyncio.gather(*(self.publish(head) for head in heads.values()))
            now = {
                function.uid: head_of(function) for function in await self._store.page_by_uid(after=after, limit=_PAGE)
            }
            for uid, head in heads.items():
                if uid not in now:
                    await self.retire_if_gone(head)
                elif now[uid] != head:
                    await self.publish_current(uid)
            after, count = page[-1].uid, count + len(page)
        return count

    async def retire_if_gone(self, head: FunctionHead) -> None:
        """Retire the head of a function that the store has no more."""
        if await self._store.get_by_uid(head.uid) is None:
            await self.retire(head)

    async def retire_version(self, function_uid: str, version: str) -> None:
        """Retire one published version, within a deadline. Raises what the directory raises, and TimeoutError."""
        async with asyncio.timeout(DIRECTORY_DEADLINE_S):
            await self._directory.retire_version(function_uid, version)

    async def list_heads(self) -> AsyncIterator[FunctionHead]:
        """Yield the head of every function of every account, for rebuilding the directory."""
        after = ""
        while page := await self._store.page_by_uid(after=after, limit=_PAGE):
            for function in page:
                yield head_of(function)
            after = page[-1].uid
