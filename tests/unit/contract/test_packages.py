from __future__ import annotations

import io
import os
import random
import stat
import struct
import time
import warnings
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract import packages
from contract.packages import PackageError, unpack_zip, verify_zip

LINK = stat.S_IFLNK | 0o777


def entry(name: str, mode: int = stat.S_IFREG | 0o644, method: int = zipfile.ZIP_DEFLATED) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.filename = info.orig_filename = name
    info.external_attr = mode << 16
    info.create_system = 3
    info.compress_type = method
    return info


def zipped(*entries: tuple[zipfile.ZipInfo | str, bytes | str]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that are there twice
        for info, data in entries:
            archive.writestr(entry(info) if isinstance(info, str) else info, data)
    return stream.getvalue()


def refused(data: bytes, tmp_path: Path, **options: int) -> PackageError:
    """Both ways must refuse; nothing may appear beside the destination."""
    with pytest.raises(PackageError) as verified:
        verify_zip(data, **options)
    inner = tmp_path / "outer"
    inner.mkdir()
    with pytest.raises(PackageError) as unpacked:
        unpack_zip(data, inner / "package", **options)
    assert unpacked.value.kind == verified.value.kind
    assert [path.name for path in inner.iterdir()] in ([], ["package"])
    return verified.value


def test_a_package_is_unpacked_with_its_modes_and_links(tmp_path: Path) -> None:
    data = zipped(
        ("app.py", "code"),
        (entry("bin/run", stat.S_IFREG | 0o6700), "#!"),
        (entry("secret", stat.S_IFREG | 0o600), "s"),
        (entry("nomode", 0), "n"),
        (entry("empty/", stat.S_IFDIR | 0o700), ""),
        (entry("lib/current", LINK), "../bin/run"),
        (entry("top", LINK), "lib"),
        ("./dotted//x", "x"),
    )
    assert verify_zip(data) == 4 + 2 + 1 + 1 + 10 + 3 + 1
    old = os.umask(0o077)
    try:
        assert unpack_zip(data, tmp_path / "package") == 22
    finally:
        os.umask(old)
    root = tmp_path / "package"
    modes = {name: stat.S_IMODE((root / name).stat().st_mode) for name in ("app.py", "bin/run", "secret", "nomode")}
    assert modes == {"app.py": 0o644, "bin/run": 0o755, "secret": 0o644, "nomode": 0o644}
    assert {stat.S_IMODE((root / name).stat().st_mode) for name in ("", "bin", "lib", "empty", "dotted")} == {0o755}
    assert os.readlink(root / "lib/current") == "../bin/run"
    assert (root / "top/current").read_text() == "#!"
    assert (root / "dotted/x").read_text() == "x"


def test_a_package_in_a_file_is_the_same(tmp_path: Path) -> None:
    (tmp_path / "zip").write_bytes(zipped(("a", "x" * 5_000_000)))
    assert unpack_zip(tmp_path / "zip", tmp_path / "package") == 5_000_000
    assert (tmp_path / "package/a").stat().st_size == 5_000_000


@pytest.mark.parametrize(
    "name",
    [
        "../evil", "a/../../evil", "a/..", "..", "/etc/evil", "//evil", "C:/evil", "c:evil", "a\\b", "..\\evil",
        "x" * 256, "/".join("d" * 200 for _ in range(20)), ".",
    ],
)  # fmt: skip
def test_names_that_could_lead_outside_are_refused(name: str, tmp_path: Path) -> None:
    assert refused(zipped((entry(name), "x")), tmp_path).kind == "unsafe_path"


def test_a_nul_in_a_name_is_refused(tmp_path: Path) -> None:
    data = zipped(("safe!evil", "x")).replace(b"safe!evil", b"safe\0evil")
    assert refused(data, tmp_path).kind == "unsafe_path"


@pytest.mark.parametrize("target", ["/etc/passwd", "..", "../x", "a/../../x", "", "a\0b", "x" * 4000])
def test_links_that_leave_the_package_are_refused(target: str, tmp_path: Path) -> None:
    assert refused(zipped((entry("link", LINK), target)), tmp_path).kind == "unsafe_path"


def test_a_chain_of_links_that_leaves_only_together_is_refused(tmp_path: Path) -> None:
    data = zipped(("a/b/c", ""), (entry("a/b/up", LINK), "../.."), (entry("x", LINK), "a/b/up/.."))
    assert "leaves the package" in refused(data, tmp_path).message


def test_a_circle_of_links_is_kept_for_the_kernel_to_refuse(tmp_path: Path) -> None:
    unpack_zip(zipped((entry("a", LINK), "b"), (entry("b", LINK), "a")), tmp_path / "package")
    with pytest.raises(OSError, match="symbolic links"):
        (tmp_path / "package/a").read_bytes()


def test_links_made_to_be_slow_are_refused_in_bounded_time(tmp_path: Path) -> None:
    wide = "/".join(["."] * 1500)
    entries = [(entry(f"l{n}", LINK), f"{wide}/l{n + 1}") for n in range(3000)]
    started = time.monotonic()
    assert refused(zipped(*entries), tmp_path).kind == "unsafe_path"
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("later", ["link/evil", "link"])
def test_nothing_is_written_through_a_link(later: str, tmp_path: Path) -> None:
    for entries in (
        [(entry("link", LINK), "dir"), ("dir/a", "x"), (later, "x")],
        [(later, "x"), (entry("link", LINK), "dir")],
    ):
        directory = tmp_path / str(len(entries))
        directory.mkdir()
        assert refused(zipped(*entries), directory).kind == "unsafe_path"


@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
def test_special_files_are_refused(kind: int, tmp_path: Path) -> None:
    assert refused(zipped((entry("node", kind | 0o666), "")), tmp_path).kind == "unsafe_path"


def test_a_name_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    assert refused(zipped(("a", "1"), ("./a", "2")), tmp_path).kind == "unsafe_path"


@pytest.mark.parametrize("entries", [[("a", ""), ("a/b", "")], [("a/b", ""), ("a", "")]])
def test_a_file_that_is_a_directory_as_well_is_refused(entries: list[tuple[str, str]], tmp_path: Path) -> None:
    assert refused(zipped(*entries), tmp_path).kind == "unsafe_path"


def test_encrypted_entries_are_refused(tmp_path: Path) -> None:
    data = bytearray(zipped(("a", "x")))
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    assert "encrypted" in refused(bytes(data), tmp_path).message


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compression_methods_are_refused(method: int, tmp_path: Path) -> None:
    assert "compression method" in refused(zipped((entry("a", method=method), "x" * 100)), tmp_path).message


@pytest.mark.parametrize("data", [b"", b"x" * 1000, b"PK\x05\x06" + b"\0" * 18, b"PK\x03\x04" + b"\xff" * 500])
def test_what_is_no_zip_is_refused(data: bytes, tmp_path: Path) -> None:
    assert refused(data, tmp_path).kind == "not_zip"


def test_a_truncated_or_changed_upload_is_refused(tmp_path: Path) -> None:
    data = zipped(("a", random.Random(1).randbytes(10_000)))
    for number, damaged in enumerate((data[:-1], data[:5000], data[100:], data[:2000] + b"!" + data[2001:])):
        directory = tmp_path / str(number)
        directory.mkdir()
        assert refused(damaged, directory).kind == "not_zip"


def test_the_limit_counts_what_is_really_there(tmp_path: Path) -> None:
    assert verify_zip(zipped(("a", b"\0" * 1000)), limit_bytes=1000) == 1000
    assert refused(zipped(("a", b"\0" * 600), ("b", b"\0" * 401)), tmp_path, limit_bytes=1000).kind == (
        "too_large_unzipped"
    )


def test_a_bomb_is_refused_at_the_limit_and_not_at_its_end(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a", "w") as file:
        for _ in range(60):
            file.write(b"\0" * 1_000_000)
    with pytest.raises(PackageError) as caught:
        verify_zip((tmp_path / "bomb").read_bytes(), limit_bytes=20_000_000)
    assert caught.value.kind == "too_large_unzipped"


@pytest.mark.parametrize("claimed", [0, 10, 2**32 - 2])
def test_sizes_that_headers_claim_are_not_believed(claimed: int, tmp_path: Path) -> None:
    data = zipped(("a", b"\0" * 100_000))
    at = data.index(b"PK\x01\x02")
    data = data[: at + 24] + struct.pack("<I", claimed) + data[at + 28 :]
    assert refused(data, tmp_path).kind == "not_zip"


def test_entries_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    data = zipped(("a", b"\0" * 100_000), ("b", b""))
    first = data.index(b"PK\x01\x02")
    second = data.index(b"PK\x01\x02", first + 1)
    data = data[: second + 42] + struct.pack("<I", 1) + data[second + 46 :]
    assert "overlaps" in refused(data, tmp_path).message


def test_too_many_entries_are_refused_before_they_cost_memory(tmp_path: Path) -> None:
    started = time.monotonic()
    data = b"PK\x01\x02" + b"\0" * 42
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 1, 1, len(data) * 300_000, 0, 0)
    assert refused(data * 300_000 + end, tmp_path).kind == "too_large_unzipped"
    assert time.monotonic() - started < 2


def test_directories_count_as_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "MAX_ENTRIES", 50)
    assert (
        refused(zipped(("/".join("abcdefghij") + "/" + "/".join("x" * 50), "")), tmp_path).kind == "too_large_unzipped"
    )


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damage_anywhere_gives_the_package_or_its_error(data: st.DataObject) -> None:
    sound = bytearray(zipped(("app.py", "print(1)\n" * 20), (entry("l", LINK), "app.py"), ("d/x", b"\1\2\3")))
    for _ in range(data.draw(st.integers(1, 4))):
        sound[data.draw(st.integers(0, len(sound) - 1))] = data.draw(st.integers(0, 255))
    try:
        outcome = f"{verify_zip(bytes(sound))} bytes"
    except PackageError as error:
        outcome: object = str(error)
    assert outcome
