"""Packages that CreateFunction and UpdateFunctionCode refuse, with nothing left of them anywhere."""

from __future__ import annotations

import hashlib
import io
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conformance.calls import FAST, Refusal, call, deploy, refusal, unique
from tests.platform_under_test import ROLE, RUNTIME, Platform

NOT_A_ZIP = "Could not unzip uploaded file. Please check your file, then try to upload again."
TOO_LARGE = "Unzipped size must be smaller than 262144000 bytes"


def archive(*entries: tuple[str | zipfile.ZipInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("app.py", f"# {unique()}\ndef handler(event, context):\n    return 1\n")
        for name, data in entries:
            zipped.writestr(name, data)
    return buffer.getvalue()


def link(name: str, target: str) -> tuple[zipfile.ZipInfo, bytes]:
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info, target.encode()


def bomb() -> bytes:
    """Return 270 MB of zeros in a quarter of a megabyte."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as zipped:
        zipped.writestr("app.py", f"# {unique()}\n")
        with zipped.open("zeros", "w") as entry:
            for _ in range(270):
                entry.write(bytes(1 << 20))
    return buffer.getvalue()


def lying_bomb() -> bytes:
    """Return a bomb whose headers claim that its entry is small."""
    data = bytearray(bomb())
    size = (270 << 20).to_bytes(4, "little")
    for _ in range(2):
        at = data.find(size)
        if at >= 0:
            data[at : at + 4] = (1000).to_bytes(4, "little")
    return bytes(data)


BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "no zip": (lambda: b"this is no zip " + unique().encode(), NOT_A_ZIP),
    "a truncated zip": (lambda: archive(("data", bytes(range(256)) * 100))[:-30], NOT_A_ZIP),
    "a zip cut in the middle": (lambda: archive(("data", unique().encode() * 1000))[:200], NOT_A_ZIP),
    "a bomb": (bomb, TOO_LARGE),
    "a bomb that lies": (lying_bomb, NOT_A_ZIP),
    "a path that climbs": (lambda: archive(("../evil.py", b"x")), NOT_A_ZIP),
    "a path that climbs inside": (lambda: archive(("a/../../evil.py", b"x")), NOT_A_ZIP),
    "an absolute path": (lambda: archive(("/etc/evil", b"x")), NOT_A_ZIP),
    "an absolute link": (lambda: archive(link("passwd", "/etc/passwd")), NOT_A_ZIP),
    "a link that climbs": (lambda: archive(link("up", "../../etc")), NOT_A_ZIP),
    "a file behind a link": (lambda: archive(link("d", "app.py"), ("d/evil", b"x")), NOT_A_ZIP),
    "an empty zip": (lambda: b"PK\x05\x06" + bytes(18), NOT_A_ZIP),
}


def blob_names(platform: Platform) -> set[str]:
    return {path.name for path in (platform.state_dir / "blobs").rglob("*") if path.is_file()}


def directories(platform: Platform) -> set[Path]:
    """Return the directories in which the worker keeps unpacked code, and those on the way to it."""
    return {path for path in (platform.state_dir).rglob("*") if path.is_dir() and "code" in path.parts}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_package_is_refused_and_nothing_of_it_is_left(platform: Platform, kind: str) -> None:
    make, text = BAD[kind]
    data, name, client = make(), f"f-{unique()[:12]}", platform.client()
    before = blob_names(platform), directories(platform)

    answer = refusal(
        client.create_function,
        FunctionName=name,
        Role=ROLE,
        Runtime=RUNTIME,
        Handler="app.handler",
        Code={"ZipFile": data},
    )

    _assert_refused(answer, text)
    assert refusal(client.get_function, FunctionName=name).status == 404
    assert hashlib.sha256(data).hexdigest() not in blob_names(platform)
    assert (blob_names(platform), directories(platform)) == before


@pytest.mark.parametrize("kind", ["no zip", "a path that climbs"])
def test_a_function_is_as_it_was_after_an_update_with_a_bad_package(platform: Platform, kind: str) -> None:
    make, text = BAD[kind]
    name, client = deploy(platform, package_code()), platform.client()
    before = client.get_function_configuration(FunctionName=name)

    answer = refusal(client.update_function_code, FunctionName=name, ZipFile=make())

    _assert_refused(answer, text)
    after = client.get_function_configuration(FunctionName=name)
    assert (after["RevisionId"], after["CodeSha256"]) == (before["RevisionId"], before["CodeSha256"])
    assert call(platform, name).payload == 1


def test_a_zip_over_50_mb_is_refused(platform: Platform) -> None:
    name = deploy(platform, package_code())

    answer = refusal(platform.client().update_function_code, FunctionName=name, ZipFile=bytes(52_428_801))

    assert (answer.status, answer.message) in {
        (400, "Zipped size must be smaller than 52428800 bytes"),
        (413, "Request must be smaller than 69905067 bytes for the UpdateFunctionCode operation"),
    }
    assert call(platform, name).payload == 1


def test_a_link_inside_the_package_works(platform: Platform) -> None:
    name = f"f-{unique()[:12]}"
    client = platform.client()
    data = archive(link("linked.py", "app.py"))
    client.create_function(
        FunctionName=name, Role=ROLE, Runtime=RUNTIME, Handler="linked.handler", Code={"ZipFile": data}
    )
    client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig=FAST)

    assert call(platform, name).payload == 1


def test_the_same_package_is_stored_and_unpacked_once(platform: Platform) -> None:
    data = archive()
    sha256 = hashlib.sha256(data).hexdigest()
    client = platform.client()
    names = [f"f-{unique()[:12]}" for _ in range(2)]
    for name in names:
        client.create_function(
            FunctionName=name, Role=ROLE, Runtime=RUNTIME, Handler="app.handler", Code={"ZipFile": data}
        )
    for name in names:
        client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig=FAST)
        assert call(platform, name).payload == 1

    kept = [path for path in platform.state_dir.rglob(f"*{sha256}*") if "run" not in path.parts]
    assert len([path for path in kept if path.is_file()]) == 1
    assert len([path for path in kept if path.is_dir()]) == 1


def package_code() -> str:
    return "def handler(event, context):\n    return 1\n"


def _assert_refused(answer: Refusal, text: str) -> None:
    assert (answer.status, answer.code) == (400, "InvalidParameterValueException")
    assert answer.message == text
