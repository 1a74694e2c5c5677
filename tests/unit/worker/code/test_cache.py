from __future__ import annotations

import asyncio
import io
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from contract.blobs.memory import MemoryBlobStore
from tests.unit.worker.waiting import wait_until
from worker.code import trees
from worker.code.cache import CodeCache, CodeUnavailableError


class CountingBlobs(MemoryBlobStore):
    """Counts the copies, and holds them back until let go."""

    def __init__(self) -> None:
        super().__init__()
        self.copies = 0
        self.let_go = asyncio.Event()
        self.let_go.set()

    async def copy_to(self, sha256: str, path: Path) -> None:
        self.copies += 1
        await self.let_go.wait()
        await super().copy_to(sha256, path)


def package(text: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("app.py", text)
    return stream.getvalue()


@pytest.fixture
async def blobs() -> CountingBlobs:
    return CountingBlobs()


@pytest.fixture
async def cache(blobs: CountingBlobs, tmp_path: Path) -> AsyncIterator[CodeCache]:
    cache = CodeCache(blobs, tmp_path, limit_bytes=100)
    await cache.start()
    yield cache
    await cache.close()
    assert list((tmp_path / "code-tmp").iterdir()) == []


async def test_a_package_is_unpacked_once_for_all(cache: CodeCache, blobs: CountingBlobs) -> None:
    sha256 = await blobs.put(package("print(1)"))
    paths = await asyncio.gather(*(cache.ensure(sha256) for _ in range(10)))
    assert {await cache.ensure(sha256), *paths} == {paths[0]}
    assert (paths[0] / "app.py").read_text() == "print(1)"
    assert blobs.copies == 1


async def test_cancelling_one_caller_leaves_the_others_theirs(cache: CodeCache, blobs: CountingBlobs) -> None:
    sha256 = await blobs.put(package("x"))
    blobs.let_go.clear()
    callers = [asyncio.ensure_future(cache.ensure(sha256)) for _ in range(3)]
    await wait_until(lambda: blobs.copies, "the fetch has begun")
    callers[0].cancel()
    blobs.let_go.set()
    assert (await callers[1]) == (await callers[2])
    assert callers[0].cancelled()
    assert blobs.copies == 1


async def test_what_is_missing_or_broken_is_unavailable_and_tried_again(cache: CodeCache, blobs: CountingBlobs) -> None:
    with pytest.raises(CodeUnavailableError, match="not in the blob store"):
        await cache.ensure("0" * 64)
    broken = await blobs.put(b"no zip")
    for _ in range(2):
        with pytest.raises(CodeUnavailableError, match="can't be unpacked"):
            await cache.ensure(broken)
    assert blobs.copies == 3
    with pytest.raises(ValueError, match="not a blob's key"):
        await cache.ensure("../../etc")


async def test_a_restart_keeps_packages_and_removes_what_a_crash_left(
    cache: CodeCache, blobs: CountingBlobs, tmp_path: Path
) -> None:
    sha256 = await blobs.put(package("x"))
    path = await cache.ensure(sha256)
    (tmp_path / "code-tmp/half/tree").mkdir(parents=True)

    successor = CodeCache(blobs, tmp_path)
    await successor.start()
    assert not (tmp_path / "code-tmp/half").exists()
    assert await successor.ensure(sha256) == path
    assert blobs.copies == 1
    assert successor.size_bytes == 1


async def test_after_a_reboot_everything_is_fetched_anew(
    cache: CodeCache, blobs: CountingBlobs, tmp_path: Path
) -> None:
    sha256 = await blobs.put(package("x"))
    await cache.ensure(sha256)
    (tmp_path / "code-boot-id").write_text("another boot")
    successor = CodeCache(blobs, tmp_path)
    await successor.start()
    await successor.ensure(sha256)
    assert blobs.copies == 2


async def test_the_least_recently_used_go_first_and_the_used_never(
    cache: CodeCache, blobs: CountingBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [await blobs.put(package(letter * 40)) for letter in "abcd"]
    paths = [await cache.ensure(key) for key in keys]
    assert await cache.evict(set()) == 0  # all have just been asked for
    monkeypatch.setattr(trees, "MIN_RESIDENCY_S", 0.0)
    await cache.ensure(keys[1])
    assert await cache.evict({keys[0]}) == 2
    assert [path.exists() for path in paths] == [True, True, False, False]
    assert cache.size_bytes == 80
    assert (await cache.ensure(keys[2]) / "app.py").exists()
    assert await cache.evict(set(), limit_bytes=0) == 3
