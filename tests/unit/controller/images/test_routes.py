"""`/_lambdock/images` over real HTTP, on memory ports."""

from __future__ import annotations

import asyncio
import io
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest

from contract.blobs.directory import DirectoryBlobStore
from contract.images import ImageManifest, parse_pushed_uri, split_pushed_uri
from controller.domain.errors import InvalidParameterValueError
from controller.images import spool
from controller.images.service import ImageService
from controller.storage.memory_images import MemoryImageStore
from tests.docker_archives import classic_members, config_of, layer, oci_members, replaced, sha256, tar_of
from tests.fakes.api_server import IMAGE_LIMIT_BYTES, ApiServer

PATH = "/_lambdock/images"
LAYERS = [layer(base="b" * 3000), layer(app="hello")]
ARCHIVE = tar_of(classic_members(LAYERS, tags=("host:5000/team/app:1",)))


@pytest.fixture(scope="module")
def _running() -> Iterator[ApiServer]:
    with ApiServer().running() as api:
        yield api


@pytest.fixture
def api(_running: ApiServer) -> ApiServer:
    """An API without images and without blobs."""
    for image in _images(_running):
        _call(_running, "DELETE", params={"ImageUri": image["ImageUri"]})
    _running.blobs._blobs.clear()
    return _running


def _call(api: ApiServer, method: str, *, account: str = "", **options: Any) -> httpx.Response:
    headers = {}
    if account:
        scope = f"{account}/20260101/us-east-1/lambda/aws4_request"
        headers["Authorization"] = f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"
    return httpx.request(method, api.url + PATH, headers=headers, timeout=20, **options)


def _push(api: ApiServer, archive: bytes = ARCHIVE, *, account: str = "", **query: str) -> httpx.Response:
    return _call(api, "POST", account=account, content=archive, params=query)


def _images(api: ApiServer, **options: Any) -> list[dict[str, Any]]:
    images: list[dict[str, Any]] = _call(api, "GET", **options).json()["Images"]
    return images


def test_a_pushed_image_is_stored_listed_and_named_by_its_manifest(api: ApiServer) -> None:
    answer = _push(api)

    assert answer.status_code == 201
    image = answer.json()
    digest = parse_pushed_uri(image["ImageUri"])
    assert digest is not None
    assert image["ImageUri"] == f"pushed.lambdock/team/app@sha256:{digest}"
    assert (image["Name"], image["Architecture"], image["SizeBytes"]) == ("team/app", "x86_64", 3005)
    assert image["ImageId"] == f"sha256:{sha256(config_of(LAYERS))}"
    assert _images(api) == [image]
    manifest = ImageManifest.from_json(api.run(api.blobs.get(digest)))
    assert manifest.digest == digest
    stored = {blob: api.run(api.blobs.get(blob)) for blob in manifest.blobs}
    assert set(stored.values()) == {config_of(LAYERS), *LAYERS}


def test_pushing_again_stores_nothing_twice(api: ApiServer) -> None:
    first = _push(api).json()
    blobs = set(api.blobs._blobs)
    again = _push(api, tar_of(classic_members(LAYERS, tags=("app:2",))), name="team/app").json()
    assert again["ImageUri"] == first["ImageUri"]
    assert set(api.blobs._blobs) == blobs
    assert len(_images(api)) == 1
    other = _push(api, tar_of(classic_members([LAYERS[0], layer(app="other")]))).json()
    assert other["ImageUri"] != first["ImageUri"]
    # A configuration, a layer and a manifest more.
    assert len(set(api.blobs._blobs) - blobs) == 3


def test_the_name_may_be_given_or_comes_from_the_archive(api: ApiServer) -> None:
    def name(tags: tuple[str, ...] | None, **query: str) -> str:
        return str(_push(api, tar_of(oci_members(LAYERS, tags=tags)), **query).json()["Name"])

    assert name(("app",), name="given/name") == "given/name"
    assert name(("localhost/app:1",)) == "app"
    assert name(("registry.example.org/a/b@x",)) == "image"
    assert name(None) == "image"
    assert name(("Host:5000/UPPER:1", "lower:1")) == "lower"


@pytest.mark.parametrize("name", ["UPPER", "a//b", "/a", "a/", "..", "a:1", "a@b", "x" * 129, "a b", "ä"])
def test_names_that_no_uri_could_have_are_refused(api: ApiServer, name: str) -> None:
    answer = _push(api, name=name)
    assert answer.status_code == 400
    assert answer.headers["x-amzn-ErrorType"] == "InvalidParameterValueException"
    assert "Image name" in answer.json()["message"]


def test_accounts_do_not_see_each_others_images(api: ApiServer) -> None:
    mine = _push(api, account="111111111111").json()["ImageUri"]
    assert _images(api) == []
    assert _call(api, "DELETE", params={"ImageUri": mine}).status_code == 404
    assert [image["ImageUri"] for image in _images(api, account="111111111111")] == [mine]
    assert api.run(api.core.images.find("000000000000", mine)) is None
    assert api.run(api.core.images.find("111111111111", mine)) is not None
    assert _call(api, "DELETE", account="111111111111", params={"ImageUri": mine}).status_code == 204


def test_a_removed_image_is_gone_from_the_list_and_its_blobs_stay_for_functions(api: ApiServer) -> None:
    uri = _push(api).json()["ImageUri"]
    blobs = set(api.blobs._blobs)
    assert _call(api, "DELETE", params={"ImageUri": uri}).status_code == 204
    assert _images(api) == []
    assert set(api.blobs._blobs) == blobs
    gone = _call(api, "DELETE", params={"ImageUri": uri})
    assert (gone.status_code, gone.headers["x-amzn-ErrorType"]) == (404, "ResourceNotFoundException")
    assert _call(api, "DELETE", params={"ImageUri": "python:3"}).status_code == 404
    assert _call(api, "DELETE").status_code == 400


def test_the_list_has_pages(api: ApiServer) -> None:
    uris = sorted(_push(api, name=f"app-{number}").json()["ImageUri"] for number in range(5))
    first = _call(api, "GET", params={"MaxItems": "3"}).json()
    rest = _call(api, "GET", params={"MaxItems": "3", "Marker": first["NextMarker"]}).json()
    assert [image["ImageUri"] for image in first["Images"] + rest["Images"]] == uris
    assert "NextMarker" not in rest
    assert _call(api, "GET", params={"Marker": "x"}).status_code == 400


def test_what_is_refused_leaves_nothing(api: ApiServer) -> None:
    members = classic_members(LAYERS)
    top = json.loads(members[-1][1])[0]["Layers"][1]  # type: ignore[index]
    bomb = tar_of([("zeros", bytes(IMAGE_LIMIT_BYTES + 1))])
    for archive, text in (
        (b"", "has no manifest.json"),
        (b"x" * 5000, "not a complete tar file"),
        (ARCHIVE[: ARCHIVE.rindex(b"manifest.json") - 600], "ends after|has no manifest.json"),
        (tar_of(replaced(members, {top: layer(app="changed")})), "has been damaged or changed"),
        (tar_of([("../x", b""), *members]), "names must be relative"),
        (tar_of(oci_members([bomb])), "more than 1048576 bytes unpacked"),
    ):
        answer = _push(api, archive)
        assert answer.status_code == 400
        assert answer.headers["x-amzn-ErrorType"] == "InvalidParameterValueException"
        body = answer.json()
        assert body["Type"] == "User"
        assert any(part in body["message"] for part in text.split("|")), body
    assert api.blobs._blobs == {}
    assert _images(api) == []


def test_archives_have_a_limit_of_their_own(api: ApiServer) -> None:
    # More than any other request may have.
    answer = _push(api, tar_of([("x", b"")])[:512] + bytes(512) + b"x" + bytes(72 << 20))
    assert (answer.status_code, answer.headers["x-amzn-ErrorType"]) == (400, "InvalidParameterValueException")
    answer = _push(api, ARCHIVE + bytes(72 << 20))
    assert (answer.status_code, answer.headers["x-amzn-ErrorType"]) == (413, "RequestTooLargeException")
    assert "no image that fits needs so many" in answer.json()["message"]


def test_a_sender_that_goes_away_leaves_nothing(api: ApiServer) -> None:
    with socket.create_connection(("127.0.0.1", api.port)) as connection:
        head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(ARCHIVE)}\r\n\r\n"
        connection.sendall(head.encode() + ARCHIVE[:-2000])
    assert _push(api, tar_of(oci_members(LAYERS))).status_code == 201
    assert len(_images(api)) == 1


def test_several_images_in_an_archive_are_refused_unless_one_is_named(api: ApiServer) -> None:
    one, two = config_of(LAYERS[:1]), config_of(LAYERS[1:])
    listing = [
        {"Config": "one", "RepoTags": ["one:latest"], "Layers": ["a"]},
        {"Config": "two", "RepoTags": ["two:latest"], "Layers": ["b"]},
    ]
    members = [("one", one), ("two", two), ("a", LAYERS[0]), ("b", LAYERS[1])]
    archive = tar_of([*members, ("manifest.json", json.dumps(listing).encode())])
    refused = _push(api, archive)
    assert (refused.status_code, "has 2 images" in refused.json()["message"]) == (400, True)
    assert _push(api, archive, image="two").json()["ImageId"] == f"sha256:{sha256(two)}"


# --- the service alone ------------------------------------------------------------------------------------------------


def _service(tmp_path: Path) -> ImageService:
    blobs = DirectoryBlobStore(tmp_path / "blobs")
    return ImageService(store=MemoryImageStore(), blobs=blobs, spool=tmp_path / "spool", limit_bytes=1 << 20)


async def _body(*pieces: bytes) -> Any:
    for piece in pieces:
        yield piece


async def test_an_archive_on_disk_has_no_name_and_is_gone_afterwards(tmp_path: Path) -> None:
    service = _service(tmp_path)
    image = await service.push("000000000000", _body(ARCHIVE))
    assert split_pushed_uri(image.uri) == ("team/app", image.manifest_sha256)
    assert list((tmp_path / "spool").iterdir()) == []
    stored = {path.name for path in (tmp_path / "blobs").rglob("*") if path.is_file()}
    assert stored == {image.manifest_sha256, image.config_sha256, *(sha256(one) for one in LAYERS)}


async def test_a_silent_sender_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "IDLE_DEADLINE_S", 0.05)

    async def silent() -> Any:
        yield ARCHIVE[:1000]
        await asyncio.Event().wait()

    with pytest.raises(InvalidParameterValueError, match=r"nothing more of the archive came for 0\.05 s"):
        await _service(tmp_path).push("000000000000", silent())


async def test_a_cancelled_push_stops_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, ended = threading.Event(), threading.Event()

    def endless(*_args: object, stop: threading.Event, **_options: object) -> None:
        begun.set()
        assert stop.wait(10)
        ended.set()

    monkeypatch.setattr("controller.images.service.check_archive", endless)
    push = asyncio.create_task(_service(tmp_path).push("000000000000", _body(ARCHIVE)))
    await asyncio.to_thread(begun.wait, 10)
    push.cancel()
    with pytest.raises(asyncio.CancelledError):
        await push
    assert await asyncio.to_thread(ended.wait, 10)


class ThreadNotingFile(io.FileIO):
    """A file without a name that notes who closes it."""

    closed_by: ClassVar[list[int]] = []

    def __init__(self, dir: Path) -> None:
        super().__init__(os.open(dir, os.O_RDWR | os.O_TMPFILE, 0o600), "r+")

    def close(self) -> None:
        if not self.closed:
            self.closed_by.append(threading.get_ident())
        super().close()


def test_nobody_waits_while_the_disk_frees_an_archive(api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes seconds for one of 10 GB."""
    monkeypatch.setattr(spool.tempfile, "TemporaryFile", ThreadNotingFile)
    monkeypatch.setattr(ThreadNotingFile, "closed_by", [])

    assert _push(api).status_code == 201
    assert _push(api, b"no archive" * 100).status_code == 400

    async def here() -> int:
        return threading.get_ident()

    # The archives', the configuration's and the layers'.
    assert len(ThreadNotingFile.closed_by) == 2 + 1 + len(LAYERS)
    assert api.run(here()) not in ThreadNotingFile.closed_by
