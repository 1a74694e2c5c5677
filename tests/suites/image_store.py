"""What every store of pushed images must do; runs on memory and on SQL."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from controller.images.ports import ImageStore, PushedImage

ACCOUNT, OTHER = "000000000000", "111111111111"


def image(name: str = "team/app", digest: str = "a", *, account: str = ACCOUNT) -> PushedImage:
    return PushedImage(
        account=account,
        name=name,
        manifest_sha256=digest * 64,
        config_sha256="c" * 64,
        architecture="arm64",
        size_bytes=10 * 2**30,
        pushed_at=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
    )


class ImageStoreSuite:
    """Subclasses provide `images`, empty."""

    @pytest.fixture
    async def images(self) -> ImageStore:
        raise NotImplementedError

    async def test_what_was_added_is_found_whole(self, images: ImageStore) -> None:
        await images.add(image())
        assert await images.find(ACCOUNT, "team/app", "a" * 64) == image()
        assert await images.find(ACCOUNT, "team/app", "b" * 64) is None
        assert await images.find(ACCOUNT, "app", "a" * 64) is None

    async def test_accounts_share_nothing(self, images: ImageStore) -> None:
        await images.add(image(account=OTHER))
        assert await images.find(ACCOUNT, "team/app", "a" * 64) is None
        assert await images.page(ACCOUNT, after=("", ""), limit=9) == []
        assert not await images.remove(ACCOUNT, "team/app", "a" * 64)
        assert await images.find(OTHER, "team/app", "a" * 64) == image(account=OTHER)

    async def test_adding_again_changes_the_time_only(self, images: ImageStore) -> None:
        later = replace(image(), pushed_at=image().pushed_at + timedelta(days=1))
        await images.add(image())
        await images.add(later)
        assert list(await images.page(ACCOUNT, after=("", ""), limit=9)) == [later]

    async def test_many_may_add_the_same_at_once(self, images: ImageStore) -> None:
        await asyncio.gather(*(images.add(image()) for _ in range(8)))
        assert list(await images.page(ACCOUNT, after=("", ""), limit=9)) == [image()]

    async def test_pages_go_by_name_and_digest(self, images: ImageStore) -> None:
        stored = [image(name, digest) for name in ("a", "a-b", "a/b", "b") for digest in "01"]
        for one in reversed(stored):
            await images.add(one)
        found: list[PushedImage] = []
        after = "", ""
        while page := await images.page(ACCOUNT, after=after, limit=3):
            assert len(page) <= 3
            found += page
            assert len(found) <= len(stored), "pages come again"
            after = page[-1].name, page[-1].manifest_sha256
        assert found == stored

    async def test_a_removed_image_is_gone(self, images: ImageStore) -> None:
        await images.add(image())
        await images.add(image("other"))
        assert await images.remove(ACCOUNT, "team/app", "a" * 64)
        assert not await images.remove(ACCOUNT, "team/app", "a" * 64)
        assert await images.find(ACCOUNT, "team/app", "a" * 64) is None
        assert await images.find(ACCOUNT, "other", "a" * 64) == image("other")

    async def test_the_collector_sees_the_manifests_of_all_accounts(self, images: ImageStore) -> None:
        assert await images.manifests() == set()
        for one in (image(), image("other"), image(digest="b"), image(digest="c", account=OTHER)):
            await images.add(one)
        await images.remove(ACCOUNT, "team/app", "a" * 64)
        assert await images.manifests() == {"a" * 64, "b" * 64, "c" * 64}
