"""Where container images of functions come from: a real registry, and `docker save` archives that are pushed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker
import httpx
import pytest

from tests.conformance.calls import FAST, call, refusal, unique
from tests.conformance.image_functions import STATIC_CLIENT
from tests.docker_archives import tar_of
from tests.foreign_images import scratch_image, static_busybox
from tests.images_under_test import (
    function_image,
    python_base,
    saved,
    tiny_archive,
    tiny_image,
    unique_name,
)
from tests.platform_under_test import ROLE, Platform
from tests.registry_server import Registry, running_registry

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

VERSIONED = "def handler(event, context): return '{version}'\n"


@pytest.fixture(scope="module")
def engine() -> Iterator[Any]:
    client = docker.from_env()
    yield client
    client.close()


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with running_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@contextmanager
def static_image(engine: Any) -> Iterator[str]:
    """Yield the name of an image of one static program that answers with its event; no other test has the same."""
    entry_point = ["/busybox", "sh", "-c", STATIC_CLIENT, "/busybox"]
    files = {"busybox": static_busybox(), "mark": (unique().encode(), 0o644)}
    with scratch_image(engine, files, [f"ENTRYPOINT {json.dumps(entry_point)}"]) as name:
        yield name


def create(platform: Platform, uri: str, *, client: Any = None, **parameters: Any) -> str:
    """Create a function of an image, and return its name; it may not be Active yet."""
    name = f"image-{unique()[:12]}"
    wanted = {"PackageType": "Image", "Role": ROLE, "MemorySize": 512, "Timeout": 10} | parameters
    (client or platform.client()).create_function(FunctionName=name, Code={"ImageUri": uri}, **wanted)
    return name


def settled(platform: Platform, name: str, *, client: Any = None) -> dict[str, Any]:
    """Wait until a function is Active or Failed, and return its configuration."""
    client = client or platform.client()
    found: dict[str, Any] = {}

    def is_settled() -> bool:
        found.update(client.get_function(FunctionName=name))
        return found["Configuration"]["State"] != "Pending"

    platform.wait_until(is_settled, f"{name} is prepared", timeout_s=120)
    return found


def failure(platform: Platform, uri: str, **parameters: Any) -> tuple[str, str]:
    """Create a function whose image can't be used; return AWS's code and the reason."""
    configuration = settled(platform, create(platform, uri, **parameters))["Configuration"]
    assert configuration["State"] == "Failed"
    return configuration["StateReasonCode"], configuration["StateReason"]


def push(platform: Platform, archive: bytes, *, account: str = "000000000000", **query: str) -> httpx.Response:
    scope = f"{account}/20260101/us-east-1/lambda/aws4_request"
    headers = {"Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"}
    return httpx.post(
        f"{platform.endpoint}/_lambdock/images", params=query, headers=headers, content=archive, timeout=120
    )


def pushed(platform: Platform, archive: bytes, **options: Any) -> str:
    answer = push(platform, archive, **options)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["ImageUri"])


# --- registries -----------------------------------------------------------------------------------------------------


def test_a_tag_is_pinned_at_creation_and_may_move_without_the_function(
    platform: Platform, engine: Any, registry: Registry
) -> None:
    repository = unique_name()
    with function_image(engine, python_base(engine), {"app.py": VERSIONED.format(version="one")}) as first:
        pinned = registry.push(engine, first, repository, "live")
        with function_image(engine, first, {"app.py": VERSIONED.format(version="two")}) as second:
            name = create(platform, f"{registry.address}/{repository}:live")
            found = settled(platform, name)
            assert found["Configuration"]["State"] == "Active", found["Configuration"]
            assert found["Code"]["ImageUri"] == f"{registry.address}/{repository}:live"
            assert found["Code"]["ResolvedImageUri"] == pinned
            assert found["Code"]["RepositoryType"] == "ECR"
            assert found["Configuration"]["CodeSha256"] == pinned.rpartition(":")[2]
            assert call(platform, name).payload == "one"

            moved = registry.push(engine, second, repository, "live")
    # A new environment of the old version: settings change, the image stays.
    client = platform.client()
    client.update_function_configuration(FunctionName=name, Timeout=9)
    client.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig=FAST)
    assert call(platform, name).payload == "one"
    # The code is updated by the same tag: what it means is looked up again.
    client.update_function_code(FunctionName=name, ImageUri=f"{registry.address}/{repository}:live")
    client.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig=FAST)
    assert client.get_function(FunctionName=name)["Code"]["ResolvedImageUri"] == moved
    assert call(platform, name).payload == "two"


def test_an_image_that_was_removed_from_the_engine_is_pulled_again(
    platform: Platform, engine: Any, registry: Registry
) -> None:
    with static_image(engine) as name:
        image_id = engine.api.inspect_image(name)["Id"]
        pinned = registry.push(engine, name, unique_name())
    function = create(platform, pinned)
    assert settled(platform, function)["Configuration"]["State"] == "Active"
    for tag in engine.api.inspect_image(image_id)["RepoTags"]:
        engine.api.remove_image(tag)
    assert not any(image["Id"] == image_id for image in engine.api.images())

    assert call(platform, function, {"pulled": "again"}).payload == {"pulled": "again"}


def test_what_cannot_be_pulled_fails_with_awss_reason_code(
    platform: Platform, engine: Any, registry: Registry, tmp_path: Path
) -> None:
    missing = f"{registry.address}/none:1"
    code, reason = failure(platform, missing)
    assert code == "InvalidImage"
    assert f"Source image {missing} does not exist. Provide a valid source image." in reason

    with running_registry(tmp_path / "gone") as gone:
        pass
    code, reason = failure(platform, f"{gone.address}/app:1")
    assert (code, "connection refused" in reason, "lambdock push" in reason) == ("ImageAccessDenied", True, True)

    with running_registry(tmp_path / "private", is_private=True) as private:
        code, reason = failure(platform, f"{private.address}/app:1")
    assert (code, "does not have permission to access image" in reason) == ("ImageAccessDenied", True)

    with tiny_image(engine, architecture="arm64") as name:
        pinned = registry.push(engine, name, unique_name())
    code, reason = failure(platform, pinned)
    assert (code, "is for linux/arm64, and the function is for x86_64" in reason) == ("InvalidImage", True)

    with tiny_image(engine, config={"Env": ["A=b"]}) as name:
        pinned = registry.push(engine, name, unique_name())
    code, reason = failure(platform, pinned)
    assert (code, "neither ENTRYPOINT nor CMD" in reason) == ("InvalidImage", True)


# --- pushed ---------------------------------------------------------------------------------------------------------


def test_a_pushed_image_runs_without_a_registry(platform: Platform, engine: Any) -> None:
    with static_image(engine) as name:
        uri = pushed(platform, saved(engine, name), name="static")
    assert uri.startswith("pushed.lambdock/static@sha256:")

    function = create(platform, uri)
    found = settled(platform, function)
    assert found["Configuration"]["State"] == "Active", found["Configuration"]
    assert (found["Code"]["ImageUri"], found["Code"]["ResolvedImageUri"]) == (uri, uri)
    assert call(platform, function, {"a": ["ä", 1]}).payload == {"a": ["ä", 1]}


def test_the_command_pushes_an_image_of_the_engine_once(platform: Platform, engine: Any) -> None:
    def run(*arguments: str) -> str:
        environment = os.environ | {"LAMBDOCK_ENDPOINT": platform.endpoint, "AWS_ACCESS_KEY_ID": "222222222222"}
        environment |= {"AWS_SECRET_ACCESS_KEY": "x"}
        command = [sys.executable, "-m", "cli", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    with tiny_image(engine, text=unique()) as name:
        uri = run("push", name)
        assert run("push", name) == uri
        image_id = engine.api.inspect_image(name)["Id"]
    listed = [json.loads(line) for line in run("images", "--json").splitlines()]
    assert [(image["ImageUri"], image["ImageId"]) for image in listed] == [(uri, image_id)]
    assert uri in run("images", "--remove", uri)
    assert run("images", "--json") == ""


def test_a_removed_image_goes_on_in_the_functions_that_use_it(platform: Platform, engine: Any) -> None:
    with static_image(engine) as name:
        image_id = engine.api.inspect_image(name)["Id"]
        uri = pushed(platform, saved(engine, name), name="removed")
    function = create(platform, uri)
    assert settled(platform, function)["Configuration"]["State"] == "Active"
    answer = httpx.delete(f"{platform.endpoint}/_lambdock/images", params={"ImageUri": uri})
    assert answer.status_code == 204
    for tag in engine.api.inspect_image(image_id)["RepoTags"]:
        engine.api.remove_image(tag)

    # Loaded from the blobs again.
    assert call(platform, function, 1).payload == 1
    refused = refusal(
        platform.client().create_function,
        FunctionName=f"f-{unique()[:12]}",
        PackageType="Image",
        Role=ROLE,
        Code={"ImageUri": uri},
    )
    assert (refused.status, refused.code) == (400, "InvalidParameterValueException")
    assert refused.message == f"Source image {uri} does not exist. Provide a valid source image."


def test_images_of_other_accounts_do_not_exist(platform: Platform) -> None:
    uri = pushed(platform, tiny_archive(text=unique()), account="111111111111")
    refused = refusal(
        platform.client().create_function,
        FunctionName=f"f-{unique()[:12]}",
        PackageType="Image",
        Role=ROLE,
        Code={"ImageUri": uri},
    )
    assert refused.message == f"Source image {uri} does not exist. Provide a valid source image."


def test_a_pushed_image_of_another_architecture_is_refused_clearly(platform: Platform) -> None:
    uri = pushed(platform, tiny_archive(architecture="arm64", text=unique()))
    code, reason = failure(platform, uri)
    assert (code, "is for linux/arm64, and the function is for x86_64" in reason) == ("InvalidImage", True)


def test_archives_that_are_damaged_or_hostile_leave_nothing(platform: Platform) -> None:
    before = {path for path in (platform.state_dir / "blobs").rglob("*") if path.is_file()}
    archive = tiny_archive(text=unique())
    for bad, text in (
        (archive[: len(archive) // 2], "Could not take in the image: the archive"),
        (b"PK\x03\x04" + bytes(5000), "not a complete tar file"),
        (tar_of([("../../outside", b"x")]), "names must be relative"),
    ):
        answer = push(platform, bad)
        assert (answer.status_code, answer.headers["x-amzn-errortype"]) == (400, "InvalidParameterValueException")
        assert text in answer.json()["message"]
    assert {path for path in (platform.state_dir / "blobs").rglob("*") if path.is_file()} == before
    assert list((platform.state_dir / "spool").iterdir()) == []
