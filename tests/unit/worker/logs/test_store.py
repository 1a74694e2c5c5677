from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.worker.waiting import wait_until
from worker.logs import store as store_module
from worker.logs.segments import MAX_MESSAGE_BYTES, Cursor, Record, SegmentLog
from worker.logs.store import LogStore


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[LogStore]:
    store = LogStore(tmp_path / "logs", 1_000_000)
    await store.start()
    yield store
    await store.close()


@pytest.fixture
def uid() -> str:
    return uuid.uuid4().hex


async def messages(store: LogStore, uid: str, limit: int = 1_000_000) -> list[str]:
    events, _ = await store.read(uid, None, limit)
    return [event.message for event in events]


async def test_lines_are_read_oldest_first_with_their_stream_and_time(store: LogStore, uid: str) -> None:
    store.append(uid, "one", 5, b"a\nb\n")
    store.append(uid, "two [$LATEST]", 6, "ü\n\n".encode())
    events, _ = await store.read(uid, None, 10)
    assert [(event.at_ms, event.stream, event.message) for event in events] == [
        (5, "one", "a"),
        (5, "one", "b"),
        (6, "two [$LATEST]", "ü"),
        (6, "two [$LATEST]", ""),
    ]


async def test_a_reader_follows_with_its_cursor(store: LogStore, uid: str) -> None:
    store.append(uid, "s", 1, b"1\n2\n3\n")
    seen: list[str] = []
    cursor: Cursor | None = None
    for more in (b"", b"4\n", b"", b"5\n6\n"):
        store.append(uid, "s", 1, more)
        while True:
            events, cursor = await store.read(uid, cursor, 2)
            if not events:
                break
            seen += [event.message for event in events]
    assert seen == list("123456")


async def test_a_function_without_a_log_has_no_events(store: LogStore, uid: str) -> None:
    assert await store.read(uid, None, 10) == ([], None)


async def test_the_disk_holds_the_newest_lines_within_the_limit(tmp_path: Path, uid: str) -> None:
    store = LogStore(tmp_path, 20_000)
    await store.start()
    cursor: Cursor | None = None
    for number in range(2_000):
        store.append(uid, "s", number, f"{number} {'x' * 40}\n".encode())
        if number == 10:
            _, cursor = await store.read(uid, None, 5)
    await store.flush()
    kept = [int(message.split()[0]) for message in await messages(store, uid)]
    size = sum(path.stat().st_size for path in (tmp_path / uid).iterdir())
    await store.close()
    assert size <= 20_000
    assert kept == list(range(kept[0], 2_000))
    assert len(kept) > 100
    events, _ = await store.read(uid, cursor, 1)
    assert events[0].message.startswith(f"{kept[0]} ")


async def test_a_log_survives_a_restart_and_a_torn_last_record(tmp_path: Path, uid: str) -> None:
    first = LogStore(tmp_path, 1_000_000)
    await first.start()
    first.append(uid, "s", 1, b"before\n")
    await first.close()
    (segment,) = (tmp_path / uid).iterdir()
    with segment.open("ab") as file:
        file.write(b"2 1000 s\ntorn")

    second = LogStore(tmp_path, 1_000_000)
    await second.start()
    assert await messages(second, uid) == ["before"]
    second.append(uid, "s", 3, b"after\n")
    assert await messages(second, uid) == ["before", "after"]
    await second.close()


async def test_a_deleted_log_is_gone_and_can_begin_anew(store: LogStore, uid: str, tmp_path: Path) -> None:
    store.append(uid, "s", 1, b"old\n")
    await store.flush()
    store.append(uid, "s", 1, b"pending\n")
    await store.delete(uid)
    assert not (tmp_path / "logs" / uid).exists()
    store.append(uid, "s", 1, b"new\n")
    assert await messages(store, uid) == ["new"]
    await store.delete(uuid.uuid4().hex)


async def test_appended_lines_reach_the_disk_without_being_asked_for(store: LogStore, uid: str, tmp_path: Path) -> None:
    store.append(uid, "s", 1, b"x\n")
    await wait_until(lambda: list((tmp_path / "logs").glob(f"{uid}/*.log")), "the lines are flushed")


async def test_a_message_longer_than_an_event_may_be_is_split(store: LogStore, uid: str) -> None:
    store.append(uid, "s", 1, b"x" * (MAX_MESSAGE_BYTES + 5) + b"\n")
    assert [len(message) for message in await messages(store, uid)] == [MAX_MESSAGE_BYTES, 5]


async def test_a_slow_disk_makes_writers_wait_and_then_costs_lines(
    store: LogStore, uid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "_FULL_BYTES", 100)
    monkeypatch.setattr(store_module, "_DROP_BYTES", 1_000)
    assert not store.is_full(uid)
    store.append(uid, "s", 1, b"x" * 499 + b"\n")
    assert store.is_full(uid)
    store.append(uid, "s", 1, b"y" * 599 + b"\n")
    assert await messages(store, uid) == ["x" * 499]
    assert not store.is_full(uid)
    store.append(uid, "s", 1, b"z\n")
    assert (await messages(store, uid))[1:] == ["[600 bytes of log were dropped: the disk is too slow]", "z"]


async def test_a_log_that_cannot_be_written_does_not_stop_the_others(store: LogStore, uid: str, tmp_path: Path) -> None:
    broken = uuid.uuid4().hex
    (tmp_path / "logs" / broken).write_text("a file where the directory should be")
    store.append(broken, "s", 1, b"lost\n")
    store.append(uid, "s", 1, b"kept\n")
    await store.flush()
    assert await messages(store, uid) == ["kept"]


@pytest.mark.parametrize("bad", ["", "..", "a/b", "a" * 200, "a\0"])
async def test_a_uid_never_becomes_another_path(store: LogStore, bad: str) -> None:
    with pytest.raises(ValueError, match="not a function's uid"):
        store.append(bad, "s", 1, b"x\n")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.text("ab\n ", max_size=30), max_size=4), max_size=8), st.integers(1, 7))
def test_whatever_is_appended_is_read_in_steps_of_any_size(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[str]], step: int
) -> None:
    log = SegmentLog(tmp_path_factory.mktemp("log"), 1_000_000)
    expected: list[str] = []
    for batch in batches:
        log.append([Record(at_ms=1, stream="s", data=(text + "\n").encode()) for text in batch])
        for text in batch:
            expected += text.split("\n")
    seen: list[str] = []
    cursor: Cursor | None = None
    while True:
        events, cursor = log.read(cursor, step)
        if not events:
            break
        seen += [event.message for event in events]
    assert seen == expected
