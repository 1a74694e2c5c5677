from __future__ import annotations

import json

import pytest

from contract.images import (
    ImageLayer,
    ImageManifest,
    is_image_name,
    names_pushed_host,
    parse_pushed_uri,
    pushed_uri,
    split_pushed_uri,
)

DIGEST = "a" * 64
MANIFEST = ImageManifest(
    config="c" * 64,
    layers=(
        ImageLayer(blob="1" * 64, diff_id="2" * 64, size_bytes=3),
        ImageLayer(blob="1" * 64, diff_id="2" * 64, size_bytes=3),
    ),
    architecture="arm64",
    total_bytes=6,
)


def test_a_manifest_survives_its_blob() -> None:
    assert ImageManifest.from_json(MANIFEST.to_json()) == MANIFEST
    assert MANIFEST.blobs == {"c" * 64, "1" * 64}


def test_the_digest_of_a_manifest_never_changes() -> None:
    # URIs that users keep in their templates name it.
    assert MANIFEST.digest == "0383c9f89d122bba9fe8073b6ca90409644f1dab763a052b07586dd61e2423b8"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{}",
        b"null",
        MANIFEST.to_json().replace(b'"version":1', b'"version":2'),
        MANIFEST.to_json().replace(b"c" * 64, b"../../../etc/passwd"),
        MANIFEST.to_json().replace(b"1" * 64, b"x" * 64),
        json.dumps(json.loads(MANIFEST.to_json()) | {"layers": 7}).encode(),
    ],
)
def test_what_is_no_manifest_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match="not the manifest of a pushed image"):
        ImageManifest.from_json(raw)


def test_a_uri_names_the_manifest() -> None:
    uri = pushed_uri("team/app", DIGEST)
    assert uri == f"pushed.lambdock/team/app@sha256:{DIGEST}"
    assert parse_pushed_uri(uri) == DIGEST
    assert split_pushed_uri(uri) == ("team/app", DIGEST)


@pytest.mark.parametrize("uri", ["app", "docker.io/app:1", f"registry/pushed.lambdock/app@sha256:{DIGEST}", "", "/"])
def test_other_uris_are_registries(uri: str) -> None:
    assert parse_pushed_uri(uri) is None
    assert split_pushed_uri(uri) is None


@pytest.mark.parametrize(
    "uri",
    [
        "pushed.lambdock",
        "pushed.lambdock/app:1",
        "pushed.lambdock:443/app:1",
        f"PUSHED.lambdock/app@sha256:{DIGEST}",
        f"pushed.lambdock/APP@sha256:{DIGEST}",
        f"pushed.lambdock/../app@sha256:{DIGEST}",
        f"pushed.lambdock/app@sha256:{DIGEST}\n",
        f"pushed.lambdock/app@sha256:{'A' * 64}",
    ],
)
def test_nothing_that_names_the_host_of_pushed_images_is_asked_of_a_registry(uri: str) -> None:
    assert names_pushed_host(uri)
    with pytest.raises(ValueError, match="not a pushed image's URI"):
        parse_pushed_uri(uri)


@pytest.mark.parametrize("name", ["a", "a/b", "a-b_c.d__e/0", "x" * 128])
def test_names_as_registries_have_them(name: str) -> None:
    assert is_image_name(name)


@pytest.mark.parametrize("name", ["", "/", "a/", "/a", "a//b", "A", "a b", ".a", "a.", "a..b", "x" * 129, "a\n", "a@b"])
def test_other_names_are_none(name: str) -> None:
    assert not is_image_name(name)
    with pytest.raises(ValueError, match="not an image name"):
        pushed_uri(name, DIGEST)
