from __future__ import annotations

import asyncio
import io
import os
import stat
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.blobs.memory import MemoryBlobStore
from worker.code import merging, trees
from worker.code.cache import CodeCache, CodeUnavailableError
from worker.code.layers import LayerTrees, keys_in_use, merged_key
from worker.code.merging import merge_trees

#: What an entry of a tree is: a file with these contents, a link to this target, or a directory.
Tree = dict[str, "str | Link | None"]


class Link(str):
    __slots__ = ()


def archive(tree: Tree, executables: tuple[str, ...] = ()) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as made:
        for name, content in tree.items():
            info = zipfile.ZipInfo(f"{name}/" if content is None else name)
            kind = stat.S_IFLNK if isinstance(content, Link) else stat.S_IFREG
            info.external_attr = (kind | (0o755 if name in executables else 0o644)) << 16
            if content is None:
                info.external_attr = (stat.S_IFDIR | 0o755) << 16
            made.writestr(info, content or "")
    return stream.getvalue()


def plant(root: Path, tree: Tree) -> Path:
    root.mkdir(parents=True)
    for name, content in tree.items():
        place = root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            place.mkdir(exist_ok=True)
        elif isinstance(content, Link):
            place.symlink_to(content)
        else:
            place.write_text(content)
    return root


def read(root: Path) -> Tree:
    """Tell what is in a tree, directories included."""
    found: Tree = {}
    for parent, directories, files in os.walk(root):
        for name in (*directories, *files):
            path = Path(parent) / name
            key = str(path.relative_to(root))
            found[key] = Link(os.readlink(path)) if path.is_symlink() else None if path.is_dir() else path.read_text()
    return found


@pytest.mark.parametrize(
    ("first", "second", "merged"),
    [
        ({"a": "1", "b": "1"}, {"b": "2", "c": "2"}, {"a": "1", "b": "2", "c": "2"}),
        ({"d/a": "1"}, {"d/b": "2"}, {"d": None, "d/a": "1", "d/b": "2"}),
        ({"x": "1"}, {"x/y": "2"}, {"x": None, "x/y": "2"}),
        ({"x/y/z": "1"}, {"x": "2"}, {"x": "2"}),
        ({"x": Link("elsewhere")}, {"x": "2"}, {"x": "2"}),
        ({"x": Link("d"), "d/a": "1"}, {"x/b": "2"}, {"x": None, "x/b": "2", "d": None, "d/a": "1"}),
        ({"x/b": "1"}, {"x": Link("d")}, {"x": Link("d")}),
        ({"x": Link("a"), "a": "1"}, {"x": Link("b")}, {"x": Link("b"), "a": "1"}),
        ({"e": None}, {"f": None}, {"e": None, "f": None}),
    ],
)
def test_later_trees_win_whatever_meets(tmp_path: Path, first: Tree, second: Tree, merged: Tree) -> None:
    sources = [plant(tmp_path / "1", first), plant(tmp_path / "2", second)]

    merge_trees(sources, tmp_path / "merged")

    assert read(tmp_path / "merged") == merged
    assert read(sources[0]) == {**read(sources[0]), **first}


def test_a_link_out_of_the_tree_leads_no_write_there(tmp_path: Path) -> None:
    """Unpacking refuses such links; merging does not rely on it."""
    outside = plant(tmp_path / "outside", {"kept": "untouched"})
    hostile = plant(tmp_path / "1", {"lib": Link(str(outside)), "kept": Link(str(outside / "kept"))})
    victim = plant(tmp_path / "2", {"lib/kept": "overwritten", "lib/new": "made", "kept": "overwritten"})

    merge_trees([hostile, victim], tmp_path / "merged")

    assert read(outside) == {"kept": "untouched"}
    assert read(tmp_path / "merged")["lib/kept"] == "overwritten"


def test_a_merged_file_is_the_layer_s_own_with_its_mode(tmp_path: Path) -> None:
    source = plant(tmp_path / "1", {"bin/tool": "#!"})
    (source / "bin/tool").chmod(0o755)

    size = merge_trees([source, plant(tmp_path / "2", {"other": "xyz"})], tmp_path / "merged")

    assert size == 5
    assert (tmp_path / "merged/bin/tool").samefile(source / "bin/tool")
    assert stat.S_IMODE((tmp_path / "merged/bin/tool").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "merged/bin").stat().st_mode) == 0o755


def test_a_file_that_can_have_no_more_names_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(merging.errno.EMLINK, "Too many links")

    source = plant(tmp_path / "1", {"bin/tool": "#!"})
    (source / "bin/tool").chmod(0o755)
    monkeypatch.setattr(os, "link", refuse)

    merge_trees([source], tmp_path / "merged")

    assert read(tmp_path / "merged") == {"bin": None, "bin/tool": "#!"}
    assert not (tmp_path / "merged/bin/tool").samefile(source / "bin/tool")
    assert stat.S_IMODE((tmp_path / "merged/bin/tool").stat().st_mode) == 0o755


_NAMES = st.sampled_from(["a", "b", "a/x", "a/y", "b/x", "a/x/q"])
_TREES = st.dictionaries(_NAMES, st.sampled_from(["file", "link"]), max_size=4)


@settings(deadline=None, max_examples=60)
@given(layers=st.lists(_TREES, min_size=1, max_size=4))
def test_merging_is_laying_one_over_the_other(tmp_path_factory: pytest.TempPathFactory, layers: list[Tree]) -> None:
    root = tmp_path_factory.mktemp("merge")
    expected: Tree = {}
    sources = []
    for number, wanted in enumerate(layers):
        # A leaf can't have anything below it within one tree.
        leaves = {name: kind for name, kind in wanted.items() if not any(o.startswith(f"{name}/") for o in wanted)}
        tree: Tree = {name: Link("a") if kind == "link" else f"{number}" for name, kind in leaves.items()}
        sources.append(plant(root / f"{number}", tree))
        for name, content in tree.items():
            for other in [other for other in expected if other.startswith(f"{name}/")]:
                del expected[other]
            parents = [str(parent) for parent in Path(name).parents if str(parent) != "."]
            expected.update(dict.fromkeys(parents))
            expected[name] = content

    merge_trees(sources, root / "merged")

    assert read(root / "merged") == expected


@pytest.fixture
async def blobs() -> MemoryBlobStore:
    return MemoryBlobStore()


@pytest.fixture
async def code(blobs: MemoryBlobStore, tmp_path: Path) -> AsyncIterator[CodeCache]:
    cache = CodeCache(blobs, tmp_path)
    await cache.start()
    yield cache
    await cache.close()


@pytest.fixture
async def layers(code: CodeCache, tmp_path: Path) -> AsyncIterator[LayerTrees]:
    made = LayerTrees(code, tmp_path)
    await made.start()
    yield made
    await made.close()
    assert list((tmp_path / "layers-tmp").iterdir()) == []


async def test_without_layers_there_is_nothing_to_mount(layers: LayerTrees) -> None:
    assert await layers.ensure([]) is None


async def test_one_layer_is_mounted_as_it_was_unpacked(
    layers: LayerTrees, code: CodeCache, blobs: MemoryBlobStore
) -> None:
    digest = await blobs.put(archive({"bin/tool": "#!", "link": Link("bin/tool")}, executables=("bin/tool",)))

    path = await layers.ensure([digest])

    assert path == await code.ensure(digest)
    assert os.access(path / "bin/tool", os.X_OK)
    assert os.readlink(path / "link") == "bin/tool"


async def test_each_order_is_merged_once(layers: LayerTrees, blobs: MemoryBlobStore) -> None:
    one = await blobs.put(archive({"who": "one", "1": "1"}))
    two = await blobs.put(archive({"who": "two", "2": "2"}))

    paths = await asyncio.gather(*(layers.ensure([one, two]) for _ in range(5)))
    other = await layers.ensure([two, one])

    assert len(set(paths)) == 1
    assert paths[0] is not None
    assert other is not None
    assert (read(paths[0])["who"], read(other)["who"]) == ("two", "one")


async def test_a_missing_or_broken_layer_is_unavailable(layers: LayerTrees, blobs: MemoryBlobStore) -> None:
    good = await blobs.put(archive({"a": "1"}))
    broken = await blobs.put(b"no zip")

    for bad in ("0" * 64, broken):
        with pytest.raises(CodeUnavailableError, match=bad):
            await layers.ensure([good, bad])
        with pytest.raises(CodeUnavailableError, match=bad):
            await layers.ensure([bad])


async def test_a_merged_tree_outlives_its_layers(
    layers: LayerTrees, code: CodeCache, blobs: MemoryBlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = [await blobs.put(archive({name: name})) for name in "ab"]
    path = await layers.ensure(digests)
    assert path is not None
    monkeypatch.setattr(trees, "MIN_RESIDENCY_S", 0.0)

    assert await code.evict({merged_key(digests)}, limit_bytes=0) == 2

    assert read(path) == {"a": "a", "b": "b"}
    assert await layers.evict(keys_in_use("0" * 64, digests), limit_bytes=0) == 0
    assert await layers.evict(set(), limit_bytes=0) == 1
    assert not path.exists()


async def test_a_restart_keeps_merged_trees_and_removes_what_a_crash_left(
    layers: LayerTrees, code: CodeCache, blobs: MemoryBlobStore, tmp_path: Path
) -> None:
    digests = [await blobs.put(archive({name: name})) for name in "ab"]
    path = await layers.ensure(digests)
    (tmp_path / "layers-tmp/half/tree").mkdir(parents=True)

    successor = LayerTrees(code, tmp_path)
    await successor.start()

    assert not (tmp_path / "layers-tmp/half").exists()
    before = (tmp_path / "layers" / merged_key(digests)).stat().st_ino
    assert await successor.ensure(digests) == path
    assert (tmp_path / "layers" / merged_key(digests)).stat().st_ino == before
