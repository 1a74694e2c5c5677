"""What a release says of itself: what it is stored as, what it launches, what it needs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from controller.domain import function as domain
from controller.domain.release import (
    Image,
    ImageConfig,
    LayerUse,
    Package,
    Release,
    Settings,
    fingerprint,
)
from controller.storage.sql.rows import function_from, release_from, release_text
from tests.fakes.controller_ports import TickingStamps

#: As the first release of the platform wrote it, before there were layers and images.
OLD_TEXT = (
    '{"settings":{"runtime":"python3.13","role":"arn:aws:iam::000000000000:role/r","handler":"app.handler",'
    '"description":"","timeout_s":3,"memory_mb":128,"environment":{"A":"ä"},"architecture":"x86_64",'
    '"ephemeral_storage_mb":512,"log_group":"","stored":{"VpcConfig":{"SubnetIds":["subnet-1"]}}},'
    '"package":{"sha256":"' + "a" * 64 + '","size_bytes":10,"unzipped_bytes":20}}'
)
#: What that release stored as the origin of versions made from it.
OLD_FINGERPRINT = "fb0b5b370f19959d24dcd9bdff8d8ce38fcbdf622f9b47920a51b4c29799f1b0"
OLD_ROW: dict[str, Any] = {
    "uid": "u",
    "account": "000000000000",
    "region": "us-east-1",
    "name": "one",
    "created_at": "2026-01-31T00:00:00.000000+00:00",
    "generation": 1,
    "reserved_concurrency": None,
    "tags": "{}",
    "last_version": 0,
    "live": OLD_TEXT,
    "live_sha256": "a" * 64,
    "release": OLD_TEXT,
    "code_sha256": "a" * 64,
    "code_bytes": 10,
    "revision_id": "r1",
    "modified_at": "2026-01-31T00:00:00.000000+00:00",
    "state": "Active",
    "state_reason": None,
    "update_status": "Successful",
    "update_reason": None,
    "preparing": None,
    "preparing_since": None,
    "is_sealed": False,
    "origin": "",
}
LAYERS = tuple(
    LayerUse(arn=f"arn:aws:lambda:us-east-1:000000000000:layer:{name}:1", sha256=name * 64, size_bytes=1,
             unzipped_bytes=2)
    for name in ("c", "b")
)  # fmt: skip
CONFIG = ImageConfig(entry_point=("/bin/app", "-x"), command=("main",), working_directory="/srv")


def settings(**changes: Any) -> Settings:
    return replace(Settings(runtime="python3.13", role="r", handler="app.handler"), **changes)


def with_layers() -> Release:
    return Release(settings=settings(layers=LAYERS), code=Package(sha256="a" * 64, size_bytes=10, unzipped_bytes=20))


def of_image(**changes: Any) -> Release:
    image = replace(Image(uri="host/app:1", resolved_uri=f"host/app@sha256:{'d' * 64}", size_bytes=9), **changes)
    return Release(settings=settings(runtime="", handler="", image_config=CONFIG), code=image)


def test_rows_older_than_layers_and_images_are_read() -> None:
    function = function_from(OLD_ROW)

    assert function.live == function.head.release
    assert (function.head.release.settings.layers, function.head.release.settings.image_config) == ((), None)
    launch = domain.launch_of(function)
    assert (launch.code_sha256, launch.layers, launch.is_image) == ("a" * 64, [], False)
    assert release_from(release_text(function.head.release)) == function.head.release


def test_a_fingerprint_that_was_stored_before_stays_what_it_was() -> None:
    assert fingerprint(release_from(OLD_TEXT)) == OLD_FINGERPRINT


@pytest.mark.parametrize("release", [with_layers(), of_image(), of_image(resolved_uri="", size_bytes=0)])
def test_what_is_stored_is_read_back_whole(release: Release) -> None:
    assert release_from(release_text(release)) == release


def test_what_is_stored_says_whether_it_is_an_image() -> None:
    assert set(orjson.loads(release_text(with_layers()))) == {"settings", "package"}
    assert set(orjson.loads(release_text(of_image()))) == {"settings", "image"}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (with_layers(), Release(settings=settings(), code=with_layers().code)),
        (with_layers(), Release(settings=settings(layers=LAYERS[::-1]), code=with_layers().code)),
        (of_image(), of_image(resolved_uri=f"host/app@sha256:{'e' * 64}")),
        (of_image(), replace(of_image(), settings=settings(runtime="", handler=""))),
        (of_image(uri="host/app:1", resolved_uri=""), of_image(uri="host/app:2", resolved_uri="")),
    ],
)
def test_layers_their_order_and_images_are_part_of_what_a_version_freezes(one: Release, other: Release) -> None:
    assert fingerprint(one) != fingerprint(other)


def test_the_same_image_by_another_tag_is_nothing_new() -> None:
    assert fingerprint(of_image(uri="host/app:2")) == fingerprint(of_image())


def launch(release: Release) -> Any:
    return domain.launch_of(
        domain.new_function(
            uid="u", account="0" * 12, region="us-east-1", name="f", release=release, tags={}, stamp=TickingStamps()()
        )
    )


def test_layers_are_launched_in_their_order() -> None:
    assert launch(with_layers()).layers == ["c" * 64, "b" * 64]


def test_an_image_is_launched_as_pinned_with_what_replaces_its_own() -> None:
    launched = launch(of_image())

    assert (launched.image_uri, launched.code_sha256) == (f"host/app@sha256:{'d' * 64}", "")
    assert (launched.entry_point, launched.command, launched.working_directory) == (
        ["/bin/app", "-x"],
        ["main"],
        "/srv",
    )


def test_a_release_needs_its_code_its_layers_and_the_description_of_a_pushed_image() -> None:
    assert with_layers().blobs == {"a" * 64, "b" * 64, "c" * 64}
    assert of_image().blobs == set()
    assert of_image(manifest_sha256="f" * 64).blobs == {"f" * 64}
