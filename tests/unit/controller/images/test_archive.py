from __future__ import annotations

import gzip
import io
import json
import tarfile
import threading
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.images import archive as archives
from controller.images.archive import ArchiveError, CheckedImage, ImageTooLargeError, check_archive
from controller.images.spool import ArchiveTooLongError, receive
from tests.docker_archives import (
    Member,
    classic_members,
    config_of,
    layer,
    link,
    manifest_member,
    oci_members,
    replaced,
    sha256,
    tar_of,
)

BASE, TOP = layer(base="b" * 2000), layer(app="hello")


async def check(
    data: bytes, *, wanted: str | None = None, limit_bytes: int = 1 << 20, piece_bytes: int = 1 << 16
) -> CheckedImage:
    async def body() -> AsyncIterator[bytes]:
        for begin in range(0, len(data), piece_bytes):
            yield data[begin : begin + piece_bytes]

    file = io.BytesIO()
    index = await receive(body(), file, limit_bytes=1 << 26)
    return check_archive(file, index, wanted=wanted, limit_bytes=limit_bytes, stop=threading.Event())


async def refused(members: list[Member] | bytes, text: str, **options: object) -> None:
    data = members if isinstance(members, bytes) else tar_of(members)
    with pytest.raises(ArchiveError, match=text):
        await check(data, **options)  # type: ignore[arg-type]


async def test_the_classic_form_is_read_with_a_layer_that_is_there_twice() -> None:
    data = tar_of(classic_members([BASE, TOP, BASE], tags=("team/app:1",)))

    checked = await check(data)

    assert checked.tags == ("team/app:1",)
    assert checked.manifest.config == sha256(config_of([BASE, TOP, BASE]))
    assert [one.blob for one in checked.manifest.layers] == [sha256(BASE), sha256(TOP), sha256(BASE)]
    assert [one.diff_id for one in checked.manifest.layers] == [sha256(BASE), sha256(TOP), sha256(BASE)]
    assert checked.manifest.architecture == "x86_64"
    # As the engine counts: it unpacks the lowest layer and the highest.
    assert checked.manifest.total_bytes == 2000 + 5 + 2000
    for digest, region in checked.regions.items():
        assert sha256(data[region.offset : region.offset + region.size_bytes]) == digest


@pytest.mark.parametrize("is_compressed", [True, False])
async def test_the_oci_form_is_read_with_layers_compressed_or_not(is_compressed: bool) -> None:
    checked = await check(tar_of(oci_members([BASE, TOP], is_compressed=is_compressed)))

    assert [one.diff_id for one in checked.manifest.layers] == [sha256(BASE), sha256(TOP)]
    assert [one.blob == one.diff_id for one in checked.manifest.layers] == [not is_compressed] * 2


@pytest.mark.parametrize("piece_bytes", [1, 511, 513])
async def test_pieces_may_end_anywhere(piece_bytes: int) -> None:
    data = tar_of([*classic_members([TOP]), (f"{'long/' * 40}name", b"x")])
    assert (await check(data, piece_bytes=piece_bytes)).manifest == (await check(data)).manifest


async def test_several_gzip_members_are_one_layer() -> None:
    half = len(TOP) // 2
    stored = gzip.compress(TOP[:half]) + gzip.compress(TOP[half:])
    config = config_of([TOP])
    members = [
        ("c.json", config),
        ("layer", stored),
        manifest_member([("c.json", ["layer"], None)]),
    ]
    assert (await check(tar_of(members))).manifest.layers[0].blob == sha256(stored)


async def test_of_several_images_one_must_be_named() -> None:
    configs = config_of([BASE]), config_of([TOP])
    members: list[Member] = [
        ("a.json", configs[0]),
        ("b.json", configs[1]),
        ("base", BASE),
        ("top", TOP),
        manifest_member([("a.json", ["base"], ["one:latest"]), ("b.json", ["top"], ["host:5000/two:7"])]),
    ]
    await refused(members, "has 2 images: 'one:latest', 'host:5000/two:7'. Name one")
    await refused(members, "no image 'three'; it has", wanted="three")
    assert (await check(tar_of(members), wanted="host:5000/two:7")).manifest.config == sha256(configs[1])
    assert (await check(tar_of(members), wanted="one")).manifest.config == sha256(configs[0])


async def test_what_is_no_complete_archive_is_refused() -> None:
    data = tar_of(classic_members([BASE]))
    await refused(b"", "no manifest.json")
    await refused(b"PK\x03\x04" + bytes(2000), "is no header of a tar")
    await refused(b"x" * 100, "ends after 100 bytes")
    for size in (*range(100, data.rindex(b"manifest.json"), 700), data.rindex(b"manifest.json") + 520):
        await refused(data[:size], "ends after|no manifest.json")


async def test_a_member_that_the_manifest_names_must_be_there() -> None:
    members = classic_members([BASE, TOP])
    names = json.loads(members[-1][1])[0]  # type: ignore[index]
    for name in (names["Config"], *names["Layers"]):
        await refused(replaced(members, {name: None}), "lacks '.*', which its manifest.json names")


async def test_what_was_changed_is_refused() -> None:
    members = classic_members([BASE, TOP])
    names = json.loads(members[-1][1])[0]  # type: ignore[index]
    await refused(replaced(members, {names["Config"]: config_of([BASE, TOP], author="x")}), "configuration .* digest")
    await refused(replaced(members, {names["Layers"][1]: BASE}), "has been damaged or changed")
    await refused(replaced(members, {names["Layers"][1]: TOP[:-1]}), "has been damaged or changed")
    oci = oci_members([TOP])
    name = json.loads(oci[-1][1])[0]["Layers"][0]  # type: ignore[index]
    # The same contents in another compression: the diff id is right, the member's name is not.
    await refused(replaced(oci, {name: gzip.compress(TOP, 1, mtime=1)}), "layer .* has digest")
    await refused(replaced(oci, {name: gzip.compress(TOP)[:-9]}), "ends early")
    await refused(replaced(oci, {name: gzip.compress(TOP)[:40] + b"junk" * 20}), "damaged or incomplete")


async def test_layers_must_be_as_many_as_the_configuration_has() -> None:
    config = config_of([BASE, TOP])
    members = [("c.json", config), ("l", BASE), manifest_member([("c.json", ["l"], None)])]
    await refused(members, "lists 1 layers, and the image's configuration has 2")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"architecture": "s390x"}, "architecture 's390x'"),
        ({"os": "windows"}, "for 'windows'"),
        ({"rootfs": {}}, "rootfs.diff_ids"),
        ({"rootfs": {"diff_ids": ["sha256:../../etc"]}}, "rootfs.diff_ids"),
        ({"rootfs": {"diff_ids": [["x"]]}}, "rootfs.diff_ids"),
        ({"rootfs": {"diff_ids": [f"sha256:{'0' * 64}"] * 126}}, "126 layers; an engine takes at most 125"),
    ],
)
async def test_configurations_that_no_engine_would_take_are_refused(changes: dict[str, object], text: str) -> None:
    await refused(classic_members([BASE], config=config_of([BASE], **changes)), text)


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"[",
        b"{}",
        b"[]",
        b"[3]",
        b'[{"Config": 1, "Layers": []}]',
        b'[{"Config": "c", "Layers": [1]}]',
        b"[" * 9999,
    ],
)
async def test_a_manifest_of_another_form_is_refused(manifest: bytes) -> None:
    await refused([("manifest.json", manifest)], "manifest.json")


@pytest.mark.parametrize("content", [b"", b"7", b"[]", b"\xff" * 600])
async def test_a_configuration_of_another_form_is_refused(content: bytes) -> None:
    await refused([("c", content), ("l", BASE), manifest_member([("c", ["l"], None)])], "configuration")


async def test_a_huge_manifest_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_MANIFEST_BYTES", 1000)
    await refused([("manifest.json", b" " * 1001)], "1001 bytes; at most 1000 are read")
    monkeypatch.setattr(archives, "MAX_CONFIG_BYTES", 100)
    monkeypatch.setattr(archives, "MAX_MANIFEST_BYTES", 10_000)
    await refused(classic_members([BASE]), "at most 100 are read")


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "a/../../b", "x" * 5000, ""])
async def test_member_names_must_stay_inside(name: str) -> None:
    await refused([(name, b"x"), *classic_members([BASE])], "names must be relative")
    await refused([("c", config_of([BASE])), manifest_member([("c", [name], None)])], "names must be relative")


async def test_links_must_stay_inside_and_lead_somewhere() -> None:
    def with_layer(*members: Member) -> list[Member]:
        return [("c", config_of([BASE])), *members, manifest_member([("c", ["d/l"], None)])]

    await refused(with_layer(link("d/l", "/proc/self/environ")), "leaves the archive")
    await refused(with_layer(link("d/l", "../../x")), "names must be relative")
    await refused(with_layer(link("d/l", "m"), link("d/m", "l")), "in a circle")
    await refused(with_layer(link("d/l", "nothing")), "lacks 'd/l'")
    await refused(with_layer(link("d/l", "x", tarfile.FIFOTYPE)), "neither a file nor a link")
    assert await check(tar_of(with_layer(("other", BASE), link("d/l", "other", tarfile.LNKTYPE))))


async def test_a_name_may_be_there_once_only() -> None:
    await refused([*classic_members([BASE]), ("manifest.json", b"[]")], "two members named 'manifest.json'")


async def test_members_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBERS", 3)
    await refused([(str(number), b"") for number in range(4)], "more than 3 members")


async def test_files_within_layers_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_ENTRIES", 3)
    await refused(classic_members([layer(a="", b="", c="", d="")]), "more than 3 files")


async def test_a_gzip_bomb_ends_at_the_limit() -> None:
    bomb = tar_of([("zeros", bytes(20_000_000))])
    with pytest.raises(ImageTooLargeError, match="more than 1048576 bytes unpacked"):
        await check(tar_of(oci_members([bomb])))
    # What is behind the end of a tar takes time to read as well.
    with pytest.raises(ImageTooLargeError):
        await check(tar_of(oci_members([TOP + bytes(20_000_000)])))


async def test_layers_are_counted_together() -> None:
    layers = [tar_of([("file", bytes([number]) * 100_000)]) for number in range(11)]
    with pytest.raises(ImageTooLargeError):
        await check(tar_of(classic_members(layers)))
    assert (await check(tar_of(classic_members(layers[:9])))).manifest.total_bytes == 900_000


async def test_a_layer_counts_in_each_place_that_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine unpacks it as often: kilobytes sent could fill a worker's disk."""
    large = tar_of([("file", b"x" * 300_000)])
    assert (await check(tar_of(classic_members([large] * 3)))).manifest.total_bytes == 900_000
    for members in (classic_members([large] * 4), oci_members([large] * 4)):
        with pytest.raises(ImageTooLargeError, match="more than 1048576 bytes unpacked"):
            await check(tar_of(members))
    monkeypatch.setattr(archives, "MAX_ENTRIES", 3)
    await refused(classic_members([BASE] * 4), "more than 3 files")


async def test_parts_of_compressed_layers_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes time, whatever is in it."""
    monkeypatch.setattr(archives, "MAX_GZIP_MEMBERS", 3)
    stored = gzip.compress(b"") * 2 + gzip.compress(BASE)
    for content in (stored, gzip.compress(b"") + stored):
        members = [("c", config_of([BASE])), ("l", content), manifest_member([("c", ["l"], None)])]
        if content is stored:
            assert await check(tar_of(members))
        else:
            await refused(members, "more than 3 parts")


@pytest.mark.parametrize("key", ["GNU.sparse.size", "GNU.sparse.realsize"])
async def test_sparse_files_count_as_what_they_become(key: str) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as made:
        info = tarfile.TarInfo("sparse")
        info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", key: str(10**12)}
        made.addfile(info)
    with pytest.raises(ImageTooLargeError):
        await check(tar_of(classic_members([buffer.getvalue()])))


async def test_old_sparse_files_count_as_what_they_become() -> None:
    header = bytearray(tar_of([("sparse", b"")])[:512])
    header[156:157] = b"S"
    header[257:265] = b"ustar  \0"
    header[482] = 1
    header[483:495] = b"77777777777\0"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    sparse = bytes(header) + bytes(512) + bytes(1024)
    with pytest.raises(ImageTooLargeError):
        await check(tar_of(classic_members([sparse])))


async def test_a_layer_that_is_no_tar_is_refused() -> None:
    await refused(classic_members([b"not a tar" * 100]), "layer .* is damaged or incomplete")
    await refused(classic_members([tar_of([("x", b"x" * 600)])[:700]]), "in the middle of a member")


@pytest.mark.parametrize("magic", [b"\x28\xb5\x2f\xfd", b"BZh9", b"\xfd7zXZ\0"])
async def test_other_compressions_are_named(magic: bytes) -> None:
    content = magic + bytes(100)
    await refused([("c", config_of([content])), ("l", content), manifest_member([("c", ["l"], None)])], "only gzip")


async def test_an_extended_header_is_not_believed() -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 1 << 30
    await refused(info.tobuf(), "claims 1073741824 bytes")


async def test_more_than_the_limit_is_not_received() -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield tar_of([("x", b"")])[:512]
        while True:
            yield bytes(1 << 16)

    with pytest.raises(ArchiveTooLongError):
        await receive(endless(), io.BytesIO(), limit_bytes=1 << 20)


@settings(max_examples=60, deadline=None)
@given(st.data())
async def test_a_damaged_archive_is_refused_or_the_same_image(data: st.DataObject) -> None:
    archive = bytearray(tar_of(oci_members([BASE, TOP])))
    whole = await check(bytes(archive))
    at = data.draw(st.integers(0, len(archive) - 1))
    archive[at] ^= data.draw(st.integers(1, 255))
    try:
        checked = await check(bytes(archive))
    except ArchiveError:
        return
    assert checked.manifest.config == whole.manifest.config
    assert [one.diff_id for one in checked.manifest.layers] == [one.diff_id for one in whole.manifest.layers]
