"""What every store of layers must do; runs on memory and on SQL."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from controller.domain.layer import LayerVersion
from controller.domain.release import Package
from controller.resources.layers.ports import ANY, Compatibility, LayerStore

ACCOUNT, REGION = "000000000000", "us-east-1"
TOP = 1_000_000


def draft(name: str = "one", *, sha: str = "a", **members: Any) -> LayerVersion:
    wanted = {
        "account": ACCOUNT,
        "region": REGION,
        "package": Package(sha256=sha * 64, size_bytes=10, unzipped_bytes=20),
        "created_at": datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=UTC),
        **members,
    }
    return LayerVersion(name=name, **wanted)


async def numbers(store: LayerStore, name: str = "one", compatible: Compatibility = ANY) -> list[int]:
    found = await store.page_versions(ACCOUNT, REGION, name, compatible=compatible, before=TOP, limit=TOP)
    return [version.number for version in found]


async def listed(store: LayerStore, compatible: Compatibility = ANY) -> list[tuple[str, int]]:
    found = await store.page(ACCOUNT, REGION, compatible=compatible, after="", limit=TOP)
    return [(version.name, version.number) for version in found]


class LayerStoreSuite:
    """Subclasses provide `store`, empty."""

    @pytest.fixture
    async def store(self) -> LayerStore:
        raise NotImplementedError

    async def test_what_was_added_is_read_back_whole(self, store: LayerStore) -> None:
        added = await store.add(
            draft(
                description="ä\n",
                license_info="MIT",
                compatible_runtimes=("python3.13", "nodejs22.x"),
                compatible_architectures=("x86_64", "arm64"),
            )
        )

        assert added.number == 1
        assert await store.get(ACCOUNT, REGION, "one", 1) == added
        assert await store.get(ACCOUNT, REGION, "one", 2) is None

    async def test_numbers_count_per_layer_account_and_region(self, store: LayerStore) -> None:
        others = (draft("two"), draft(account="111111111111"), draft(region="eu-west-1"))

        added = [await store.add(one) for one in (draft(), *others, draft())]

        assert [one.number for one in added] == [1, 1, 1, 1, 2]

    async def test_numbers_never_come_back(self, store: LayerStore) -> None:
        for _ in range(3):
            await store.add(draft())
        assert await store.delete(ACCOUNT, REGION, "one", 3)
        assert (await store.add(draft())).number == 4
        for number in await numbers(store):
            assert await store.delete(ACCOUNT, REGION, "one", number)

        assert (await store.add(draft())).number == 5

    async def test_versions_added_at_once_have_distinct_numbers(self, store: LayerStore) -> None:
        added = await asyncio.gather(*(store.add(draft()) for _ in range(12)))

        assert sorted(one.number for one in added) == list(range(1, 13))
        assert await numbers(store) == list(range(12, 0, -1))

    async def test_a_version_is_deleted_once(self, store: LayerStore) -> None:
        await store.add(draft())

        assert not await store.delete(ACCOUNT, REGION, "one", 2)
        assert not await store.delete("111111111111", REGION, "one", 1)
        assert await store.delete(ACCOUNT, REGION, "one", 1)
        assert not await store.delete(ACCOUNT, REGION, "one", 1)
        assert await store.get(ACCOUNT, REGION, "one", 1) is None

    async def test_nothing_crosses_accounts_or_regions(self, store: LayerStore) -> None:
        await store.add(draft(account="111111111111"))
        await store.add(draft(region="eu-west-1"))

        assert await store.get(ACCOUNT, REGION, "one", 1) is None
        assert await listed(store) == []
        assert await numbers(store) == []

    async def test_versions_are_paged_newest_first(self, store: LayerStore) -> None:
        for _ in range(5):
            await store.add(draft())
        await store.add(draft("other"))
        assert await store.delete(ACCOUNT, REGION, "one", 4)

        seen: list[int] = []
        while page := await store.page_versions(
            ACCOUNT, REGION, "one", compatible=ANY, before=seen[-1] if seen else TOP, limit=2
        ):
            assert len(page) <= 2
            seen.extend(version.number for version in page)

        assert seen == [5, 3, 2, 1]

    async def test_layers_are_paged_by_name_with_their_newest_version(self, store: LayerStore) -> None:
        for name, count in (("b", 2), ("a", 1), ("c", 11), ("gone", 1)):
            for _ in range(count):
                await store.add(draft(name))
        assert await store.delete(ACCOUNT, REGION, "gone", 1)

        first = await store.page(ACCOUNT, REGION, compatible=ANY, after="", limit=2)
        rest = await store.page(ACCOUNT, REGION, compatible=ANY, after=first[-1].name, limit=2)

        assert [(one.name, one.number) for one in (*first, *rest)] == [("a", 1), ("b", 2), ("c", 11)]

    async def test_lists_are_filtered_by_what_versions_are_compatible_with(self, store: LayerStore) -> None:
        await store.add(draft(compatible_runtimes=("python3.1", "nodejs22.x"), compatible_architectures=("arm64",)))
        await store.add(draft(compatible_runtimes=("python3.13",), compatible_architectures=("x86_64", "arm64")))
        await store.add(draft())
        await store.add(draft("other", compatible_runtimes=("python3.13",)))

        assert await numbers(store, compatible=Compatibility(runtime="python3.1")) == [1]
        assert await numbers(store, compatible=Compatibility(architecture="arm64")) == [2, 1]
        assert await numbers(store, compatible=Compatibility(runtime="nodejs22.x", architecture="x86_64")) == []
        assert await listed(store, Compatibility(runtime="nodejs22.x")) == [("one", 1)]
        assert await listed(store, Compatibility(runtime="python3.13")) == [("one", 2), ("other", 1)]
        # What is a wild card in SQL is a letter here.
        assert await numbers(store, compatible=Compatibility(architecture="x86%64")) == []
        assert await numbers(store, compatible=Compatibility(architecture="x86-64")) == []
        assert await numbers(store, compatible=Compatibility(architecture="x86_6_")) == []

    async def test_blobs_of_all_versions_are_referenced_until_the_last_is_deleted(self, store: LayerStore) -> None:
        await store.add(draft())
        await store.add(draft(account="111111111111"))
        await store.add(draft("other", sha="b"))

        assert await store.referenced_blobs() == {"a" * 64, "b" * 64}
        assert await store.delete(ACCOUNT, REGION, "one", 1)
        assert await store.delete(ACCOUNT, REGION, "other", 1)
        assert await store.referenced_blobs() == {"a" * 64}

    async def test_stored_bytes_are_those_of_every_version(self, store: LayerStore) -> None:
        for name in ("one", "one", "other"):
            await store.add(draft(name))
        await store.add(draft(account="111111111111"))

        assert await store.stored_bytes(ACCOUNT, REGION) == 30
        assert await store.stored_bytes(ACCOUNT, "eu-west-1") == 0
