from __future__ import annotations

import io
import os
import stat
import zipfile
from pathlib import Path

import pytest

from cli.deploy import package
from cli.deploy.package import build_package, is_ignored
from cli.errors import UsageError
from contract.packages import unpack_zip


def test_the_package_is_the_same_whatever_the_times_and_the_order(tmp_path: Path) -> None:
    for folder, names in (("one", ("a.py", "b.py")), ("two", ("b.py", "a.py"))):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).write_text(name)
            os.utime(tmp_path / folder / name, (0, 0 if folder == "one" else 10**9))

    assert build_package(tmp_path / "one") == build_package(tmp_path / "two")


def test_the_package_leaves_out_what_is_ignored(tmp_path: Path) -> None:
    for name in (".git/HEAD", "pkg/__pycache__/a.pyc", ".venv/x", "notes.md", "pkg/a.py", "docs/x/y.txt", "lib/x.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "lambdock.toml").write_text("")
    (tmp_path / ".lambdockignore").write_text("# comment\n/notes.md\ndocs/\n")

    names = zipfile.ZipFile(io.BytesIO(build_package(tmp_path))).namelist()

    assert names == ["lib/x.md", "pkg/a.py"]


def test_the_package_keeps_executables_executable_and_all_readable(tmp_path: Path) -> None:
    (tmp_path / "bootstrap").write_text("#!/bin/sh\n")
    (tmp_path / "bootstrap").chmod(0o700)
    (tmp_path / "data").write_text("x")
    (tmp_path / "data").chmod(0o600)

    archive = zipfile.ZipFile(io.BytesIO(build_package(tmp_path)))

    assert {i.filename: i.external_attr >> 16 & 0o777 for i in archive.infolist()} == {
        "bootstrap": 0o755,
        "data": 0o644,
    }


def test_an_empty_folder_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no file to deploy"):
        build_package(tmp_path)


def test_links_within_the_package_stay_links(tmp_path: Path) -> None:
    for name in ("node_modules/.bin", "node_modules/tool", "packages/own"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "node_modules/tool/cli.js").write_text("#!/usr/bin/env node\n")
    (tmp_path / "packages/own/index.js").write_text("own")
    (tmp_path / "node_modules/.bin/tool").symlink_to("../tool/cli.js")
    (tmp_path / "node_modules/own").symlink_to("../packages/own")

    archive = zipfile.ZipFile(io.BytesIO(build_package(tmp_path)))

    assert archive.namelist() == [
        "node_modules/.bin/tool",
        "node_modules/own",
        "node_modules/tool/cli.js",
        "packages/own/index.js",
    ]
    assert archive.read("node_modules/.bin/tool") == b"../tool/cli.js"
    # The platform takes it as it is meant.
    unpack_zip(build_package(tmp_path), tmp_path.with_name("unpacked"))
    assert (tmp_path.with_name("unpacked") / "node_modules/own/index.js").read_text() == "own"


@pytest.mark.parametrize("target", ["outside.txt", ".venv/inside.txt", "ABSOLUTE"])
def test_a_link_to_a_file_that_is_not_packed_becomes_the_file(tmp_path: Path, target: str) -> None:
    folder = tmp_path / "f"
    (folder / ".venv").mkdir(parents=True)
    (tmp_path / "outside.txt").write_text("content")
    (folder / ".venv/inside.txt").write_text("content")
    written = {"outside.txt": "../outside.txt", "ABSOLUTE": str(tmp_path / "outside.txt")}.get(target, target)
    (folder / "link").symlink_to(written)

    archive = zipfile.ZipFile(io.BytesIO(build_package(folder)))

    assert archive.read("link") == b"content"
    assert stat.S_ISREG(archive.getinfo("link").external_attr >> 16)


def test_links_that_lead_nowhere_or_to_foreign_folders_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    (tmp_path / "f/loop").symlink_to(tmp_path)
    with pytest.raises(UsageError, match="loop is a link to a folder"):
        build_package(tmp_path / "f")
    (tmp_path / "f/loop").unlink()
    (tmp_path / "f/gone").symlink_to("nothing")
    with pytest.raises(UsageError, match="gone cannot be read"):
        build_package(tmp_path / "f")


def test_folders_that_are_packed_elsewhere_stay_out(tmp_path: Path) -> None:
    for name in ("app.py", "layer[1]/python/lib.py", "layer1/x.py", "deep/layer[1]/x.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)

    names = zipfile.ZipFile(
        io.BytesIO(build_package(tmp_path, without=[tmp_path / "layer[1]", tmp_path, tmp_path.parent]))
    ).namelist()

    assert names == ["app.py", "deep/layer[1]/x.py", "layer1/x.py"]


def test_a_package_that_cannot_be_sent_is_refused_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert package.MAX_ZIPPED_BYTES == 50 << 20
    monkeypatch.setattr(package, "MAX_ZIPPED_BYTES", 1_000_000)
    (tmp_path / "model.bin").write_bytes(os.urandom(1_000_000))

    with pytest.raises(UsageError, match=r"packs to 1\.0 MB.*\.lambdockignore.*layers"):
        build_package(tmp_path)


@pytest.mark.parametrize(
    ("path", "pattern", "expected"),
    [
        ("a/b.pyc", "*.pyc", True),
        ("a/tests", "tests", True),
        ("a/tests", "/tests", False),
        ("tests", "/tests", True),
        ("a/b/c.txt", "a/*/c.txt", True),
        ("A.py", "a.py", False),
    ],
)
def test_ignore_patterns(path: str, pattern: str, expected: bool) -> None:
    assert is_ignored(path, (pattern,)) is expected
