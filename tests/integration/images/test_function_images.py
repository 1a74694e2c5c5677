"""Functions' images on a real engine, from a real registry and from the blob store."""

from __future__ import annotations

import asyncio
import json
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from contract.blobs.memory import MemoryBlobStore
from contract.images import ImageManifest, pushed_uri
from contract.launch import LaunchSpec
from controller.images.service import ImageService
from controller.storage.memory_images import MemoryImageStore
from deploy import down
from tests.docker_archives import config_of, layer, link, oci_members, tar_of
from tests.images_under_test import names_of_cell, remove, saved, tiny_archive, tiny_image, unique_name
from tests.registry_server import SECRET, USER, Registry, running_registry
from worker.engine import DockerEngine
from worker.images.errors import ImageUnavailableError
from worker.images.function_images import FunctionImages, ImagePolicy, function_repository

pytestmark = [pytest.mark.docker, pytest.mark.timeout(120)]


def launch(uri: str, **changes: Any) -> LaunchSpec:
    values: dict[str, Any] = {
        "version_key": "f:$LATEST:1",
        "function_uid": "f",
        "generation": 1,
        "account": "000000000000",
        "region": "us-east-1",
        "function_name": "f",
        "version": "$LATEST",
        "runtime": "",
        "handler": "",
        "code_sha256": "",
        "architecture": "x86_64",
        "memory_mb": 128,
        "timeout_s": 3,
        "ephemeral_storage_mb": 512,
        "image_uri": uri,
    }
    return LaunchSpec(**(values | changes))


def images_of(
    engine: DockerEngine, state_dir: Path, cell: str, blobs: MemoryBlobStore | None = None, **policy: Any
) -> FunctionImages:
    return FunctionImages(engine, blobs or MemoryBlobStore(), state_dir, cell=cell, policy=ImagePolicy(**policy))


async def refusal(images: FunctionImages, spec: LaunchSpec) -> ImageUnavailableError:
    with pytest.raises(ImageUnavailableError) as caught:
        await images.ensure(spec)
    return caught.value


async def pushed(blobs: MemoryBlobStore, archive: bytes, spool: Path, name: str = "app") -> LaunchSpec:
    """Push an archive as the API would, and return a launch of it."""

    async def body() -> Any:
        yield archive

    service = ImageService(store=MemoryImageStore(), blobs=blobs, spool=spool, limit_bytes=1 << 30)
    image = await service.push("000000000000", body(), name=name)
    return launch(image.uri, image_manifest=image.manifest_sha256, architecture=image.architecture)


def exists(client: Any, name: str) -> bool:
    return any(name in (image["RepoTags"] or []) + (image["RepoDigests"] or []) for image in client.api.images())


# --- registries -----------------------------------------------------------------------------------------------------


async def test_a_tag_is_pinned_and_stays_what_it_was(
    engine: DockerEngine, client: Any, registry: Registry, state_dir: Path, cell: str
) -> None:
    images, repository = images_of(engine, state_dir, cell), unique_name()
    with tiny_image(client, config={"Cmd": ["/app", "x"], "Env": ["A=b=c"], "WorkingDir": "/w"}) as first:
        pinned = registry.push(client, first, repository, "1")

    image = await images.ensure(launch(f"{registry.address}/{repository}:1"))

    assert image.uri == pinned
    assert (image.entry_point, image.command) == ((), ("/app", "x"))
    assert (image.environment, image.working_directory) == ({"A": "b=c"}, "/w")
    assert image.size_bytes == len(first)
    # Nothing but our own name is left of the pull: `docker image prune` would take what has none.
    found = client.api.inspect_image(image.image_id)
    assert found["RepoTags"] == [f"{function_repository(cell)}:pulled-{pinned.rpartition(':')[2]}"]
    assert found["RepoDigests"] == []

    with tiny_image(client) as second:
        moved = registry.push(client, second, repository, "1")
    assert moved != pinned
    assert (await images.ensure(launch(image.uri))).image_id == image.image_id
    assert (await images.ensure(launch(f"{registry.address}/{repository}:1"))).uri == moved


async def test_an_image_that_was_removed_from_the_engine_is_pulled_again(
    engine: DockerEngine, client: Any, registry: Registry, state_dir: Path, cell: str
) -> None:
    now = [time.time()]
    images = FunctionImages(engine, MemoryBlobStore(), state_dir, cell=cell, clock=lambda: now[0])
    repository = text = unique_name()
    with tiny_image(client, text=text) as name:
        pinned = registry.push(client, name, repository)
    image = await images.ensure(launch(pinned))
    client.api.remove_image(image.image_id, force=True)

    assert (await images.ensure(launch(pinned))).image_id == image.image_id
    client.api.remove_image(image.image_id, force=True)
    registry.forget(repository)
    error = await refusal(images, launch(pinned))
    assert error.code == "ImageDeleted"
    assert f"Source image {pinned} does not exist any more" in error.reason

    # Not every invocation asks the registry, but soon one does.
    with tiny_image(client, text=text) as name:
        assert registry.push(client, name, repository) == pinned
    assert (await refusal(images, launch(pinned))).reason == error.reason
    now[0] += 11.0
    assert (await images.ensure(launch(pinned))).image_id == image.image_id


async def test_make_purge_finds_the_images_of_its_cell(
    engine: DockerEngine, client: Any, registry: Registry, state_dir: Path, cell: str
) -> None:
    with tiny_image(client) as name:
        pinned = registry.push(client, name, unique_name())
    await images_of(engine, state_dir, cell).ensure(launch(pinned))
    await images_of(engine, state_dir, f"{cell}-2").ensure(launch(pinned))
    try:
        assert down.function_images(cell) == [f"{function_repository(cell)}:pulled-{pinned.rpartition(':')[2]}"]
    finally:
        for left in names_of_cell(client, f"{cell}-2"):
            remove(client, left)


async def test_many_launches_pull_once(
    engine: DockerEngine, client: Any, registry: Registry, state_dir: Path, cell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = [images_of(engine, state_dir, cell), images_of(engine, state_dir, cell)]
    pulls = []
    whole = client.api.pull
    monkeypatch.setattr(client.api, "pull", lambda name, **options: pulls.append(name) or whole(name, **options))
    with tiny_image(client) as name:
        pinned = registry.push(client, name, unique_name())

    found = await asyncio.gather(*(one.ensure(launch(pinned)) for one in workers for _ in range(5)))

    assert len(pulls) == 1
    # Workers of other directories share the engine, but no lock.
    client.api.remove_image(found[0].image_id, force=True)
    workers = [images_of(engine, state_dir / str(number), cell) for number in range(3)]
    found += await asyncio.gather(*(one.ensure(launch(pinned)) for one in workers))
    assert len({image.image_id for image in found}) == 1
    assert client.api.inspect_image(found[0].image_id)["RepoDigests"] == []


async def test_names_that_were_there_before_are_left_alone(
    engine: DockerEngine, client: Any, registry: Registry, state_dir: Path, cell: str
) -> None:
    images = images_of(engine, state_dir, cell, keep_s=-1.0)
    with tiny_image(client) as name:
        pinned = registry.push(client, name, unique_name())
        list(client.api.pull(pinned, stream=True))
        try:
            image = await images.ensure(launch(pinned))
            assert await images.collect() == [f"{function_repository(cell)}:pulled-{pinned.rpartition(':')[2]}"]
            found = client.api.inspect_image(image.image_id)
            assert (found["RepoTags"], found["RepoDigests"]) == ([name], [pinned])
        finally:
            remove(client, pinned)


async def test_what_is_not_there_has_awss_reason_codes(
    engine: DockerEngine, client: Any, registry: Registry, state_dir: Path, cell: str, tmp_path: Path
) -> None:
    images = images_of(engine, state_dir, cell)
    missing = await refusal(images, launch(f"{registry.address}/none:7"))
    assert missing.code == "InvalidImage"
    assert f"Source image {registry.address}/none:7 does not exist. Provide a valid source image." in missing.reason
    invalid = await refusal(images, launch("Not/An Image"))
    assert (invalid.code, "is not valid. Provide a valid source image" in invalid.reason) == ("InvalidImage", True)
    with running_registry(tmp_path / "gone") as gone:
        pass
    unreachable = await refusal(images, launch(f"{gone.address}/app:1"))
    assert (unreachable.code, "connection refused" in unreachable.reason) == ("ImageAccessDenied", True)
    lost = await refusal(images, launch(pushed_uri("app", "0" * 64), image_manifest="0" * 64))
    assert lost.code == "ImageDeleted"
    assert (await refusal(images, launch(pushed_uri("app", "0" * 64)))).code == "ImageDeleted"


async def test_a_private_registry_needs_the_workers_own_login(
    engine: DockerEngine,
    client: Any,
    state_dir: Path,
    cell: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    with running_registry(tmp_path / "registry", is_private=True) as private, tiny_image(client) as name:
        uri = f"{private.address}/app:1"
        client.api.tag(name, f"{private.address}/app", "1")
        login = {"username": USER, "password": SECRET}
        pushes = list(client.api.push(f"{private.address}/app", tag="1", stream=True, decode=True, auth_config=login))
        assert not any("error" in event for event in pushes)
        remove(client, uri)
        images = images_of(engine, state_dir, cell)

        denied = await refusal(images, launch(uri))
        assert denied.code == "ImageAccessDenied"
        assert f"Lambda does not have permission to access image {uri}" in denied.reason

        (tmp_path / "docker").mkdir()
        config = {"auths": {private.address: {"auth": "dXNlcjpzZWNyZXQ="}}}
        (tmp_path / "docker/config.json").write_text(json.dumps(config))
        assert (await images.ensure(launch(uri))).size_bytes == len(name)


async def test_a_prefix_is_pulled_from_a_mirror_and_pinned_by_its_own_name(
    engine: DockerEngine, client: Any, registry: Registry, state_dir: Path, cell: str
) -> None:
    prefixes = {"*.dkr.ecr.*.amazonaws.com/": f"{registry.address}/ecr/"}
    images = images_of(engine, state_dir, cell, prefixes=prefixes)
    repository = unique_name()
    with tiny_image(client) as name:
        digest = registry.push(client, name, f"ecr/{repository}", "1").partition("@")[2]

    host = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
    image = await images.ensure(launch(f"{host}/{repository}:1"))

    assert image.uri == f"{host}/{repository}@{digest}"
    assert (await images.ensure(launch(image.uri))).image_id == image.image_id


@pytest.mark.parametrize("is_pinned", [False, True])
async def test_another_architecture_is_refused_and_not_kept(
    engine: DockerEngine, client: Any, registry: Registry, state_dir: Path, cell: str, is_pinned: bool
) -> None:
    images, repository = images_of(engine, state_dir, cell), unique_name()
    with tiny_image(client, architecture="arm64") as name:
        image_id = client.api.inspect_image(name)["Id"]
        pinned = registry.push(client, name, repository, "1")

    uri = pinned if is_pinned else f"{registry.address}/{repository}:1"
    error = await refusal(images, launch(uri))

    assert error.code == "InvalidImage"
    assert "is for linux/arm64, and the function is for x86_64" in error.reason
    assert not any(image["Id"] == image_id for image in client.api.images())
    other = await refusal(images, launch(uri, architecture="arm64"))
    assert "This engine runs x86_64 code, and the function is for arm64" in other.reason


async def test_an_image_must_say_what_to_run_unless_the_function_does(
    engine: DockerEngine, client: Any, registry: Registry, state_dir: Path, cell: str
) -> None:
    images = images_of(engine, state_dir, cell)
    with tiny_image(client, config={"Env": ["A=b"]}) as name:
        pinned = registry.push(client, name, unique_name())
    error = await refusal(images, launch(pinned))
    assert error.code == "InvalidImage"
    assert "has neither ENTRYPOINT nor CMD" in error.reason
    images = images_of(engine, state_dir, cell)
    assert (await images.ensure(launch(pinned, entry_point=["/app"]))).entry_point == ()
    assert (await images.ensure(launch(pinned, command=["/app"]))).command == ()


async def test_an_image_over_the_limit_is_refused_and_not_kept(
    engine: DockerEngine, client: Any, registry: Registry, state_dir: Path, cell: str
) -> None:
    images = images_of(engine, state_dir, cell, limit_bytes=1000)
    with tiny_image(client, text=unique_name().ljust(1001)) as name:
        image_id = client.api.inspect_image(name)["Id"]
        pinned = registry.push(client, name, unique_name())
    error = await refusal(images, launch(pinned))
    assert (error.code, "has 1001 bytes unpacked; at most 1000" in error.reason) == ("InvalidImage", True)
    assert not any(image["Id"] == image_id for image in client.api.images())


# --- pushed ---------------------------------------------------------------------------------------------------------


async def test_a_pushed_image_is_loaded_as_the_same_image(
    engine: DockerEngine, client: Any, state_dir: Path, cell: str, tmp_path: Path
) -> None:
    blobs = MemoryBlobStore()
    double = layer(twice="again")
    with tiny_image(client, layers=[double, layer(other="x"), double]) as name:
        image_id = client.api.inspect_image(name)["Id"]
        archive = saved(client, name)
    spec = await pushed(blobs, archive, tmp_path)
    assert not exists(client, name)

    image = await images_of(engine, state_dir, cell, blobs).ensure(spec)

    assert image.image_id == image_id
    assert image.uri == spec.image_uri
    tags = client.api.inspect_image(image_id)["RepoTags"]
    assert tags == [f"{function_repository(cell)}:pushed-{spec.image_manifest}"]
    assert not list((state_dir / "image-loads").iterdir())
    client.api.remove_image(image_id, force=True)
    assert (await images_of(engine, state_dir, cell, blobs).ensure(spec)).image_id == image_id


async def test_compressed_layers_are_loaded_too(
    engine: DockerEngine, client: Any, state_dir: Path, cell: str, tmp_path: Path
) -> None:
    blobs = MemoryBlobStore()
    layers = [layer(base="b" * 5000), layer(app=unique_name())]
    config = config_of(layers, config={"Entrypoint": ["/app"], "Volumes": {"/data": {}}, "User": "1000:5"})
    spec = await pushed(blobs, tar_of(oci_members(layers, config=config)), tmp_path)

    image = await images_of(engine, state_dir, cell, blobs).ensure(spec)

    assert image.image_id == f"sha256:{ImageManifest.from_json(await blobs.get(spec.image_manifest)).config}"
    assert (image.entry_point, image.volumes, image.user) == (("/app",), ("/data",), "1000:5")


async def test_a_pushed_image_of_another_architecture_is_refused_without_loading_it(
    engine: DockerEngine, client: Any, state_dir: Path, cell: str, tmp_path: Path
) -> None:
    blobs = MemoryBlobStore()
    spec = await pushed(blobs, tiny_archive(architecture="arm64", text=unique_name()), tmp_path)
    images = images_of(engine, state_dir, cell, blobs)
    assert "This engine runs x86_64" in (await refusal(images, spec)).reason
    wrong = launch(spec.image_uri, image_manifest=spec.image_manifest)
    assert "is for linux/arm64, and the function is for x86_64" in (await refusal(images, wrong)).reason


async def test_a_layer_that_the_engine_refuses_is_an_invalid_image(
    engine: DockerEngine, client: Any, state_dir: Path, cell: str, tmp_path: Path
) -> None:
    blobs = MemoryBlobStore()
    broken = tar_of([link("app", "nothing", tarfile.LNKTYPE)])
    spec = await pushed(blobs, tiny_archive(layers=[broken], text=unique_name()), tmp_path)
    error = await refusal(images_of(engine, state_dir, cell, blobs), spec)
    assert (error.code, "can't load image" in error.reason) == ("InvalidImage", True)
    assert not list((state_dir / "image-loads").iterdir())


async def test_a_name_of_ours_on_another_image_is_not_believed(
    engine: DockerEngine, client: Any, state_dir: Path, cell: str, tmp_path: Path
) -> None:
    blobs = MemoryBlobStore()
    spec = await pushed(blobs, tiny_archive(text=unique_name()), tmp_path)
    with tiny_image(client) as wrong:
        client.api.tag(wrong, function_repository(cell), f"pushed-{spec.image_manifest}")
        image = await images_of(engine, state_dir, cell, blobs).ensure(spec)
        assert image.image_id != client.api.inspect_image(wrong)["Id"]


# --- removal --------------------------------------------------------------------------------------------------------


async def test_images_that_nobody_used_for_long_are_removed_and_others_stay(
    engine: DockerEngine, client: Any, state_dir: Path, cell: str, tmp_path: Path
) -> None:
    blobs = MemoryBlobStore()
    now = [time.time()]

    def worker() -> FunctionImages:
        return FunctionImages(
            engine, blobs, state_dir, cell=cell, policy=ImagePolicy(keep_s=86_400.0), clock=lambda: now[0]
        )

    unused = await pushed(blobs, tiny_archive(text=unique_name()), tmp_path)
    held = await pushed(blobs, tiny_archive(text=unique_name()), tmp_path)
    for spec in (unused, held):
        await worker().ensure(spec)
    unused_id = (await worker().ensure(unused)).image_id
    container = client.api.create_container((await worker().ensure(held)).image_id, labels={"lambdock": cell})
    try:
        assert await worker().collect() == []
        now[0] += 90_000.0
        assert await worker().collect() == [f"{function_repository(cell)}:pushed-{unused.image_manifest}"]
        assert exists(client, f"{function_repository(cell)}:pushed-{held.image_manifest}")
        assert not any(image["Id"] == unused_id for image in client.api.images())
    finally:
        client.api.remove_container(container["Id"])


async def test_use_renews_the_name_which_other_workers_see(
    engine: DockerEngine, client: Any, state_dir: Path, cell: str, tmp_path: Path
) -> None:
    blobs = MemoryBlobStore()
    spec = await pushed(blobs, tiny_archive(text=unique_name()), tmp_path)
    image = await images_of(engine, state_dir, cell, blobs).ensure(spec)
    before = client.api.inspect_image(image.image_id)["Metadata"]["LastTagTime"]
    later = FunctionImages(engine, blobs, state_dir, cell=cell, clock=lambda: time.time() + 4_000.0)
    assert client.api.inspect_image(image.image_id)["Metadata"]["LastTagTime"] == before
    await later.ensure(spec)
    assert client.api.inspect_image(image.image_id)["Metadata"]["LastTagTime"] > before
