import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker.errors
import pytest
import requests

from runtimes.catalog import load_catalog
from worker.engine import DockerEngine
from worker.images.errors import RuntimeUnavailableError
from worker.images.runtime_images import RuntimeImages


class EngineStub:
    """What the SDK's client answers for images: some exist, a registry has some, builds succeed or fail."""

    def __init__(self) -> None:
        self.api = self
        self.present: dict[str, dict[str, Any]] = {}
        self.in_registry: set[str] = set()
        self.registry_answers = True
        self.build_output: list[dict[str, str]] = [{"stream": "Step 1/1 : FROM base\n"}]
        self.calls: list[str] = []

    def info(self) -> dict[str, str]:
        return {"Architecture": "aarch64"}

    def inspect_image(self, reference: str) -> dict[str, Any]:
        if reference not in self.present:
            raise docker.errors.ImageNotFound(reference)
        return self.present[reference]

    def inspect_distribution(self, reference: str) -> None:
        self.calls.append(f"ask {reference}")
        if not self.registry_answers:
            raise requests.exceptions.ConnectionError("no such host")
        if reference not in self.in_registry:
            raise docker.errors.NotFound(reference)

    def pull(self, repository: str, tag: str, **_: object) -> Iterator[dict[str, str]]:
        self.calls.append(f"pull {repository}:{tag}")
        self.present[f"{repository}:{tag}"] = {"Architecture": "arm64", "Config": {"Labels": None}}
        yield {"status": "done"}

    def build(self, *, tag: str, buildargs: dict[str, str], **_: object) -> Iterator[dict[str, str]]:
        self.calls.append(f"build on {buildargs['BASE']}")
        yield from self.build_output
        if not any("error" in event for event in self.build_output):
            self.present[tag] = {"Architecture": "arm64"}

    def close(self) -> None:
        pass


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def stub() -> EngineStub:
    return EngineStub()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(stub: EngineStub, clock: Clock, tmp_path: Path) -> Iterator[Any]:
    with DockerEngine(stub, threads=2) as engine:

        def made(**options: Any) -> RuntimeImages:
            nowhere = tmp_path / "authorities"
            return RuntimeImages(engine, load_catalog(), tmp_path, authorities=nowhere, clock=clock, **options)

        yield made


async def test_official_base_is_pulled_and_built_on_when_a_registry_has_it(stub: EngineStub, make: Any) -> None:
    stub.in_registry = {"python:3.12-slim-bookworm"}

    tag = await make().ensure("python3.12", "arm64")

    assert tag.startswith("lambdock/python3.12:")
    base = "python:3.12-slim-bookworm"
    assert stub.calls == [f"ask {base}", f"pull {base}", f"build on {base}"]


async def test_concurrent_callers_share_one_build_within_and_across_processes(stub: EngineStub, make: Any) -> None:
    stub.in_registry = {"python:3.12-slim-bookworm"}
    one, another = make(), make()

    tags = await asyncio.gather(*(images.ensure("python3.12", "arm64") for images in (one, another) for _ in range(3)))

    assert len(set(tags)) == 1
    assert [call for call in stub.calls if call.startswith("build")] == ["build on python:3.12-slim-bookworm"]


async def test_builds_of_one_family_on_one_base_come_one_after_another(stub: EngineStub, make: Any) -> None:
    """The later one finds their common steps done."""
    began: list[str] = []
    another_began = threading.Event()
    together: list[bool] = []
    real = stub.build

    def build(*, tag: str, **options: Any) -> Iterator[dict[str, str]]:
        began.append(tag)
        if len(began) > 1:
            another_began.set()
        else:
            # Time enough for the other one, which must not come.
            together.append(another_began.wait(0.3))
        yield from real(tag=tag, **options)

    stub.build = build  # type: ignore[method-assign]
    stub.in_registry = {"own:1"}
    mapping = {"nodejs20.x": "own:1", "nodejs22.x": "own:1"}
    one, another = make(mapping=mapping), make(mapping=mapping)

    tags = await asyncio.gather(one.ensure("nodejs20.x", "arm64"), another.ensure("nodejs22.x", "arm64"))

    assert len(set(tags)) == 2
    assert together == [False]
    assert set(began) == set(tags)


async def test_unreachable_registry_is_not_asked_again_for_a_while(stub: EngineStub, make: Any, clock: Clock) -> None:
    stub.registry_answers = False
    images = make()

    async def attempt(runtime: str) -> str:
        with pytest.raises(RuntimeUnavailableError) as caught:
            await images.ensure(runtime, "arm64")
        return caught.value.reason

    reason = await attempt("python3.12")
    assert "no such host" in reason
    assert '{"python3.12": "registry.example/python3.12:1"}' in reason
    await attempt("python3.10")
    assert "or any image with" not in await attempt("python3.8")
    assert stub.calls == ["ask python:3.12-slim-bookworm"]

    clock.now += 301
    stub.registry_answers = True
    stub.in_registry = {"python:3.12-slim-bookworm"}
    assert await images.ensure("python3.12", "arm64")


async def test_failed_build_carries_the_end_of_its_output_and_is_not_repeated_at_once(
    stub: EngineStub, make: Any, clock: Clock
) -> None:
    stub.in_registry = {"python:3.12-slim-bookworm"}
    stub.build_output = [{"stream": f"line {number}\n"} for number in range(30)] + [{"error": "exit code 1"}]
    images = make()

    for _ in range(2):
        with pytest.raises(RuntimeUnavailableError) as caught:
            await images.ensure("python3.12", "arm64")
        assert caught.value.reason.splitlines()[-2:] == ["line 29", "exit code 1"]
        assert "line 10\n" not in caught.value.reason
    assert stub.calls.count("build on python:3.12-slim-bookworm") == 1

    clock.now += 61
    stub.build_output = []
    assert await images.ensure("python3.12", "arm64")


async def test_image_removed_by_an_operator_is_built_again(stub: EngineStub, make: Any, clock: Clock) -> None:
    stub.in_registry = {"python:3.12-slim-bookworm"}
    images = make()
    stub.present.pop(await images.ensure("python3.12", "arm64"))

    clock.now += 31
    await images.ensure("python3.12", "arm64")

    assert stub.calls.count("build on python:3.12-slim-bookworm") == 2


async def test_named_image_without_the_gate_becomes_the_base(stub: EngineStub, make: Any) -> None:
    stub.present["own:1"] = {"Architecture": "arm64", "Config": {"Labels": {}}}

    tag = await make(mapping={"python3.8": "own:1", "python3.12": "own:1"}).ensure("python3.12", "arm64")

    assert tag.startswith("lambdock/python3.12:")
    assert stub.calls == ["build on own:1"]


async def test_named_image_with_the_gate_serves_runtimes_without_a_recipe(stub: EngineStub, make: Any) -> None:
    labels = {"lambdock.gate": "2", "lambdock.runtime": "go1.x"}
    stub.present["own:1"] = {"Architecture": "arm64", "Config": {"Labels": labels}}

    assert await make(mapping={"go1.x": "own:1"}).ensure("go1.x", "arm64") == "own:1"


async def test_named_image_that_cannot_serve_is_refused_with_the_reason(stub: EngineStub, make: Any) -> None:
    stub.present["plain:1"] = {"Architecture": "arm64", "Config": {}}
    stub.present["other:1"] = {"Architecture": "amd64", "Config": {}}
    images = make(mapping={"go1.x": "plain:1", "python3.12": "other:1", "python3.11": "gone:1"})

    for runtime, reason in [
        ("go1.x", r"entry point is not the gate"),
        ("python3.12", "is for x86_64, and the function is for arm64"),
        ("python3.11", "the engine hasn't got: the registry has no gone:1"),
    ]:
        with pytest.raises(RuntimeUnavailableError, match=reason):
            await images.ensure(runtime, "arm64")


async def test_cancelled_caller_does_not_block_the_next(stub: EngineStub, make: Any) -> None:
    stub.in_registry = {"python:3.12-slim-bookworm"}
    images = make()
    task = asyncio.ensure_future(images.ensure("python3.12", "arm64"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert await images.ensure("python3.12", "arm64")
