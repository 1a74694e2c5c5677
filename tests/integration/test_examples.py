"""Each example, deployed by the real command on a real platform, does what its README says."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import uuid
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.examples import EXAMPLES, built_image, call, deploy, environment, invoke, remove_image
from tests.platform_under_test import Platform
from tests.s3_server import S3Server
from tests.walkthrough import follow

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


@pytest.fixture(scope="module")
def platform(s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    running = Platform(tmp_path_factory.mktemp("examples"), LAMBDOCK_FUNCTION_ENDPOINTS=f"s3={s3.endpoint}")
    running.start()
    yield running
    running.stop()


def test_thumbnail_makes_a_small_image_of_what_an_event_names(platform: Platform, s3: S3Server, tmp_path: Path) -> None:
    folder = tmp_path / "thumbnail"
    shutil.copytree(EXAMPLES / "thumbnail", folder, ignore=shutil.ignore_patterns("layer"))
    subprocess.run([str(folder / "layer.sh")], check=True, env=environment(platform), timeout=200)
    name = _name()
    deployed = deploy(platform, folder, "--name", name)
    bucket = s3.make_bucket()
    s3.client.put_object(Bucket=bucket, Key="incoming/a photo.png", Body=_png(600, 400))
    event = json.loads((folder / "event.json").read_text())
    event["Records"][0]["s3"]["bucket"]["name"] = bucket

    answer = invoke(platform, name, event)

    assert answer == {"thumbnails": [{"bucket": bucket, "key": "thumbnails/a photo.png", "width": 128, "height": 85}]}
    stored = s3.client.get_object(Bucket=bucket, Key="thumbnails/a photo.png")
    assert stored["ContentType"] == "image/png"
    width, height, pixels = _decoded(stored["Body"].read())
    assert (width, height) == (128, 85)
    assert pixels[0][0] < 20, "black on the left, as the original"
    assert pixels[0][-1] > 235

    again = deploy(platform, folder, "--name", name)
    assert (again["outcome"], again["layers"]) == ("unchanged", deployed["layers"])
    assert [arn.split(":", 6)[6] for arn in deployed["layers"]] == [f"{name}-layer:1"]


def test_image_function_runs_what_its_dockerfile_put_into_the_image(
    platform: Platform, image: str, tmp_path: Path
) -> None:
    folder, name = EXAMPLES / "image-function", _name()

    deployed = deploy(platform, folder, "--image", image, "--name", name)
    answer = invoke(platform, name, {"name": "Ada"})
    again = deploy(platform, folder, "--image", image, "--name", name)
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    manifest = (other / "lambdock.toml").read_text()
    assert "# command" in manifest
    (other / "lambdock.toml").write_text(manifest.replace("# command", "command"))
    changed = deploy(platform, other, "--image", image, "--name", name)

    assert "@sha256:" in deployed["image_uri"]
    assert answer["message"] == "Hello, Ada, from a container image!"
    assert answer["built_with"].startswith("3.")
    assert answer["user"] != 0
    assert again["outcome"] == "unchanged"
    assert changed["outcome"] == "updated"
    assert invoke(platform, name, {"name": "Ada"}) == {"message": "HELLO, ADA!"}


def test_node_hello_answers(platform: Platform) -> None:
    name = _name()
    deploy(platform, EXAMPLES / "node-hello", "--name", name)

    answer = invoke(platform, name, {"name": "Ada"})

    assert (answer["message"], answer["function"]) == ("Hello, Ada!", name)
    assert answer["node"].startswith("v22.")
    assert 0 < answer["remainingMs"] <= 10_000
    platform.wait_until(lambda: any("greeting Ada" in line for line in platform.logs(name)), "it is logged")


def test_node_modules_are_packed_with_their_links(platform: Platform, tmp_path: Path) -> None:
    folder, name = tmp_path / "node-hello", _name()
    shutil.copytree(EXAMPLES / "node-hello", folder)
    own = folder / "packages/own"
    own.mkdir(parents=True)
    (own / "package.json").write_text('{"name": "own", "version": "1.0.0", "type": "module", "exports": "./main.js"}')
    (own / "main.js").write_text("export const greet = (name) => `Servus, ${name}!`;\n")
    # As `npm install` does it for a workspace.
    (folder / "node_modules").mkdir()
    (folder / "node_modules/own").symlink_to("../packages/own")
    (folder / "greet.mjs").write_text('export { greet } from "own";\n')
    deploy(platform, folder, "--name", name)

    assert invoke(platform, name, {"name": "Ada"})["message"] == "Servus, Ada!"


def test_counter_shows_what_an_environment_keeps(platform: Platform, tmp_path: Path) -> None:
    folder = tmp_path / "counter"
    shutil.copytree(EXAMPLES / "counter", folder)
    name = _name()
    deploy(platform, folder, "--name", name)

    warm = [invoke(platform, name, {}) for _ in range(3)]
    with ThreadPoolExecutor(2) as pool:
        parallel = list(pool.map(lambda _: invoke(platform, name, {"hold_s": 2}), range(2)))
    (folder / "app.py").write_text((folder / "app.py").read_text() + "\n# another version\n")
    deploy(platform, folder, "--name", name)
    renewed = invoke(platform, name, {})

    assert [answer["count_in_memory"] for answer in warm] == [1, 2, 3]
    assert [answer["count_on_disk"] for answer in warm] == [1, 2, 3]
    assert [answer["is_cold_start"] for answer in warm] == [True, False, False]
    assert len({answer["environment"] for answer in warm}) == 1
    assert sorted(answer["count_in_memory"] for answer in parallel) == [1, 4], "one warm, one new beside it"
    assert renewed["count_in_memory"] == renewed["count_on_disk"] == 1
    assert renewed["environment"] not in {answer["environment"] for answer in (*warm, *parallel)}


def test_chain_asks_and_tells_another_function(platform: Platform) -> None:
    for part in ("stock", "order"):
        deploy(platform, EXAMPLES / "chain" / part)

    accepted = invoke(platform, "order", {"item": "apple", "count": 2})
    refused = invoke(platform, "order", {"item": "pear", "count": 1})
    failed = call(platform, "invoke", "order", "--payload", '{"item": "plum", "count": 1}', expected=1)

    assert accepted == {"accepted": True, "told": 202}
    assert refused == {"accepted": False, "reason": "0 of pear left"}
    assert "stock failed" in failed
    platform.wait_until(lambda: any("took 2 x apple" in line for line in platform.logs("stock")), "the event arrived")


def test_the_readme_of_the_examples_can_be_followed_word_by_word(
    platform: Platform, s3: S3Server, tmp_path: Path
) -> None:
    # Made in the folders by the commands, so not in the tree's own ones.
    copied = tmp_path / "examples"
    shutil.copytree(EXAMPLES, copied, ignore=shutil.ignore_patterns("layer"))
    (tmp_path / "photo.png").write_bytes(_png(600, 400))
    image = _name()
    manifest = copied / "image-function/lambdock.toml"
    manifest.write_text(manifest.read_text().replace('image = "image-function"', f'image = "{image}"'))
    # A package index may need this host's settings for certificates; a home is the reader's own.
    variables = {key: value for key, value in environment(platform).items() if key != "HOME"}
    try:
        follow(
            EXAMPLES / "README.md",
            {"http://127.0.0.1:9000": s3.endpoint, "--tag image-function": f"--tag {image}"},
            variables,
            tmp_path,
        )
    finally:
        remove_image(image)

    width, height, _ = _decoded((tmp_path / "thumbnail.png").read_bytes())
    assert (width, height) == (128, 85)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with built_image(tmp_path_factory.mktemp("image")) as name:
        yield name


def _name() -> str:
    """A name of this test alone."""
    return f"lambdock-test-{uuid.uuid4().hex[:12]}"


def _png(width: int, height: int) -> bytes:
    """A picture that goes from black on the left to white on the right."""
    row = b"\0" + b"".join(bytes([column * 255 // width]) * 3 for column in range(width))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in (
            (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
            (b"IDAT", zlib.compress(row * height)),
            (b"IEND", b""),
        )
    )


def _decoded(png: bytes) -> tuple[int, int, list[bytes]]:
    """Return width, height and rows of a PNG of 8 bits and three colours; its checksums must be right."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    chunks: dict[bytes, bytes] = {}
    at = 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        kind, body = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        assert struct.unpack(">I", png[at + 8 + length : at + 12 + length]) == (zlib.crc32(kind + body),)
        chunks[kind] = chunks.get(kind, b"") + body
        at += 12 + length
    width, height, depth, colour = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
    assert (depth, colour) == (8, 2)
    raw, stride = zlib.decompress(chunks[b"IDAT"]), 1 + 3 * width
    assert len(raw) == height * stride
    rows: list[bytes] = []
    for at in range(0, len(raw), stride):
        above = rows[-1] if rows else bytes(3 * width)
        rows.append(_unfiltered(raw[at], raw[at + 1 : at + stride], above))
    return width, height, rows


def _unfiltered(kind: int, row: bytes, above: bytes) -> bytes:
    """Undo what PNG does to a row before it is compressed."""
    result = bytearray()
    for at, value in enumerate(row):
        left, corner = (result[at - 3], above[at - 3]) if at >= 3 else (0, 0)
        up = above[at]
        nearest = min((left, up, corner), key=lambda each: abs(left + up - corner - each))
        result.append((value + (0, left, up, (left + up) // 2, nearest)[kind]) & 0xFF)
    return bytes(result)
