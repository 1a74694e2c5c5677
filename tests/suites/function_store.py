"""What every store of functions must do; runs on memory and on SQL."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from controller.core import Store
from controller.domain import function as domain
from controller.domain.errors import InvalidParameterValueError
from controller.domain.function import Function, PreparationFailure
from controller.domain.release import Image, ImageConfig, LayerUse, Package, Release, Settings
from controller.resources.functions.ports import FunctionExistsError
from tests.fakes.controller_ports import TickingStamps

ROLE = "arn:aws:iam::000000000000:role/r"
stamps = TickingStamps()


def release(sha: str = "a", **settings: Any) -> Release:
    return Release(
        settings=Settings(**{"runtime": "python3.13", "role": ROLE, "handler": "app.handler", **settings}),
        code=Package(sha256=sha * 64, size_bytes=10, unzipped_bytes=20),
    )


def function(
    name: str = "one",
    *,
    account: str = "000000000000",
    region: str = "us-east-1",
    tags: Mapping[str, str] | None = None,
) -> Function:
    return domain.new_function(
        uid=uuid.uuid4().hex,
        account=account,
        region=region,
        name=name,
        release=release(environment={"A": "ä"}, stored={"VpcConfig": {"SubnetIds": ["subnet-1"]}}),
        tags=tags or {},
        stamp=stamps(),
    )


def of_image(name: str, image: Image) -> Function:
    config = ImageConfig(entry_point=("/app",), command=("main",), working_directory="/srv")
    settings = release(runtime="", handler="", image_config=config).settings
    return domain.new_function(
        uid=uuid.uuid4().hex,
        account="000000000000",
        region="us-east-1",
        name=name,
        release=Release(settings=settings, code=image),
        tags={},
        stamp=stamps(),
    )


def active(of: Function) -> Function:
    return domain.finish_head(of, None, stamps())


class FunctionStoreSuite:
    """Subclasses provide `store`, empty."""

    @pytest.fixture
    async def store(self) -> Store:
        raise NotImplementedError

    async def test_what_was_created_is_read_back_whole(self, store: Store) -> None:
        made = function(tags={"k": "v"})
        await store.create(made)

        assert await store.get(made.account, made.region, "one") == made
        assert await store.get_by_uid(made.uid) == made

    async def test_every_state_survives_the_round_trip(self, store: Store) -> None:
        made = active(function())
        await store.create(made)
        failed = domain.finish_head(
            domain.begin_update(made, release("b"), stamps()),
            PreparationFailure(reason_code="InvalidRuntime", reason="no such runtime"),
            stamps(),
        )

        assert await store.replace(failed, made.head.revision_id)
        assert await store.get_by_uid(made.uid) == failed

    async def test_a_name_is_taken_once_per_account_and_region(self, store: Store) -> None:
        await store.create(function())
        await store.create(function(account="111111111111"))
        await store.create(function(region="eu-west-1"))

        with pytest.raises(FunctionExistsError):
            await store.create(function())

    async def test_of_concurrent_creations_of_one_name_one_succeeds(self, store: Store) -> None:
        results = await asyncio.gather(*(store.create(function()) for _ in range(5)), return_exceptions=True)

        assert sorted(str(type(one).__name__) for one in results) == ["FunctionExistsError"] * 4 + ["NoneType"]

    async def test_nothing_crosses_accounts_or_regions(self, store: Store) -> None:
        await store.create(function())

        assert await store.get("111111111111", "us-east-1", "one") is None
        assert await store.page("000000000000", "eu-west-1", after="", limit=9) == []

    async def test_replacing_on_a_stale_revision_changes_nothing(self, store: Store) -> None:
        made = active(function())
        await store.create(made)
        changed, version = domain.publish(domain.begin_update(made, release("b"), stamps()), None, stamps())

        assert not await store.replace(changed, "other", version)
        assert await store.get_by_uid(made.uid) == made
        assert await store.get_version(made.uid, "1") is None

    async def test_of_concurrent_replacements_one_wins(self, store: Store) -> None:
        made = active(function())
        await store.create(made)
        changes = [domain.begin_update(made, release(sha), stamps()) for sha in "bcdef"]

        won = await asyncio.gather(*(store.replace(one, made.head.revision_id) for one in changes))

        assert won.count(True) == 1
        assert await store.get_by_uid(made.uid) == changes[won.index(True)]

    async def test_replacing_leaves_the_reservation_alone(self, store: Store) -> None:
        made = active(function())
        await store.create(made)
        reserved = await store.reserve(made.uid, 7, account_limit=1000, revision_id="r2")
        assert reserved is not None

        stale = replace(domain.begin_update(made, release("b"), stamps()), reserved_concurrency=None)
        assert await store.replace(stale, "r2")

        stored = await store.get_by_uid(made.uid)
        assert stored is not None
        assert stored.reserved_concurrency == 7

    async def test_deletion_takes_the_versions_along(self, store: Store) -> None:
        made, version = domain.publish(active(function()), None, stamps())
        await store.create(made, version)

        assert await store.delete(made.uid)
        assert not await store.delete(made.uid)
        assert await store.get_version(made.uid, "1") is None
        await store.create(function())

    async def test_pages_follow_names(self, store: Store) -> None:
        for name in ("b", "a", "C", "d"):
            await store.create(function(name))

        page = await store.page("000000000000", "us-east-1", after="", limit=3)
        rest = await store.page("000000000000", "us-east-1", after=page[-1].name, limit=3)

        assert [one.name for one in (*page, *rest)] == ["C", "a", "b", "d"]

    async def test_pages_with_versions_miss_and_repeat_nothing(self, store: Store) -> None:
        for name, count in (("a", 3), ("b", 0), ("c", 12)):
            made = active(function(name))
            await store.create(made)
            for _ in range(count):
                made, version = domain.publish(made, None, stamps())
                before, revision = made.head.revision_id, stamps().revision_id
                made = replace(made, head=replace(made.head, revision_id=revision))
                assert await store.replace(made, before, version)

        seen: list[tuple[str, int]] = []
        after = ("", -1)
        while page := await store.page_with_versions("000000000000", "us-east-1", after=after, limit=2):
            assert len(page) <= 2
            seen.extend((one.name, domain.version_number(version)) for one, version in page)
            after = seen[-1]

        expected = [("a", n) for n in range(4)] + [("b", 0)] + [("c", n) for n in range(13)]
        assert seen == expected

    async def test_versions_are_paged_replaced_and_deleted(self, store: Store) -> None:
        made, first = domain.publish(function(), "first", stamps())
        await store.create(made, first)
        ready = domain.finish_version(first, None, stamps())

        assert not await store.replace_version(ready, "other")
        assert await store.replace_version(ready, first.revision_id)
        assert await store.page_versions(made.uid, after=0, limit=5) == [ready]
        assert await store.newest_version(made.uid) == ready
        assert await store.delete_version(made.uid, "1")
        assert not await store.delete_version(made.uid, "1")
        assert await store.newest_version(made.uid) is None

    async def test_unprepared_releases_are_listed_oldest_first(self, store: Store) -> None:
        ready, (pending, version) = active(function("a")), domain.publish(function("b"), None, stamps())
        await store.create(pending, version)
        await store.create(ready)

        found = await store.unprepared()

        assert [(one.function_uid, one.version, one.revision_id) for one in found] == [
            (pending.uid, "$LATEST", pending.head.preparing),
            (pending.uid, "1", version.preparing),
        ]

    async def test_blobs_of_heads_live_releases_and_versions_are_referenced(self, store: Store) -> None:
        made, version = domain.publish(active(function()), None, stamps())
        await store.create(made, version)
        updated = domain.begin_update(made, release("b"), stamps())
        assert await store.replace(updated, made.head.revision_id)

        assert await store.referenced_blobs() == {"a" * 64, "b" * 64}
        assert await store.referenced_images() == set()

    async def test_layers_and_pushed_images_are_referenced_while_a_release_names_them(self, store: Store) -> None:
        layer = LayerUse(arn="arn:layer:1", sha256="c" * 64, size_bytes=1, unzipped_bytes=2)
        made = active(domain.begin_update(active(function()), release(layers=(layer,)), stamps()))
        await store.create(made)
        assert await store.referenced_blobs() == {"a" * 64, "c" * 64}

        other = active(
            of_image("image", Image(uri="p/i@sha256:1", resolved_uri="p/i@sha256:1", manifest_sha256="d" * 64))
        )
        await store.create(other)
        # The head by another image, the live release by this one.
        updated = domain.begin_update(other, of_image("", Image(uri="host/app:1")).head.release, stamps())
        assert await store.replace(updated, other.head.revision_id)

        assert await store.referenced_images() == {"d" * 64}
        assert await store.referenced_blobs() == {"a" * 64, "c" * 64, "d" * 64}
        await store.delete(other.uid)
        assert await store.referenced_images() == set()

    async def test_functions_of_images_are_read_back_whole(self, store: Store) -> None:
        image = Image(uri="host/app:1", resolved_uri=f"host/app@sha256:{'e' * 64}", size_bytes=7)
        made = active(of_image("one", image))
        await store.create(made)

        assert await store.get_by_uid(made.uid) == made
        assert (await store.usage(made.account, made.region)).code_bytes == 0

    async def test_reservations_leave_the_minimum_unreserved(self, store: Store) -> None:
        first, second = function("a"), function("b")
        await store.create(first)
        await store.create(second)
        assert await store.reserve(first.uid, 850, account_limit=1000, revision_id="r2") is not None

        with pytest.raises(InvalidParameterValueError):
            await store.reserve(second.uid, 51, account_limit=1000, revision_id="r3")

        assert await store.reserve(second.uid, 50, account_limit=1000, revision_id="r4") is not None
        # Its own reservation does not count against a function's new one.
        assert await store.reserve(first.uid, 849, account_limit=1000, revision_id="r5") is not None
        assert await store.reserve(first.uid, None, account_limit=1000, revision_id="r6") is not None
        assert (await store.usage("000000000000", "us-east-1")).reserved_concurrency == 50

    async def test_concurrent_reservations_never_exceed_the_account(self, store: Store) -> None:
        made = [function(f"f{number}") for number in range(6)]
        for one in made:
            await store.create(one)

        results = await asyncio.gather(
            *(store.reserve(one.uid, 300, account_limit=1000, revision_id="r") for one in made),
            return_exceptions=True,
        )

        assert sum(isinstance(one, Function) for one in results) == 3
        assert (await store.usage("000000000000", "us-east-1")).reserved_concurrency == 900

    async def test_reserving_for_an_unknown_function_is_a_no_op(self, store: Store) -> None:
        assert await store.reserve("unknown", 1, account_limit=1000, revision_id="r") is None

    async def test_usage_counts_functions_and_the_code_of_their_versions(self, store: Store) -> None:
        made, version = domain.publish(active(function()), None, stamps())
        await store.create(made, version)

        usage = await store.usage("000000000000", "us-east-1")

        assert (usage.function_count, usage.code_bytes) == (1, 20)

    async def test_all_functions_are_paged_by_uid(self, store: Store) -> None:
        made = [function(account="111111111111"), function(region="eu-west-1"), function("x")]
        for one in made:
            await store.create(one)

        first = await store.page_by_uid(after="", limit=2)
        rest = await store.page_by_uid(after=first[-1].uid, limit=2)

        assert [one.uid for one in (*first, *rest)] == sorted(one.uid for one in made)
