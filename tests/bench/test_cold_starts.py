"""Cold starts of code of every kind, after the first time on the worker, interleaved so that all meet the same load."""

from __future__ import annotations

import base64
import io
import json
import random
import statistics
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from contract.bus.operations import RESIDENCY_MS
from tests.bench.limits import HANDLER
from tests.examples import EXAMPLES, built_image, deploy
from tests.platform_under_test import RUNTIME, Platform

COLDS = 15
#: Of those that are shown without a target.
OTHER_COLDS = 7
MEMORY_MB = 1769
LIMIT = 1.3

LAYER_BYTES = 60_000_000
LAYER_FILES = 60
PACKAGE_FILES = 1_000

WITH_LAYER = "import from_layer\n\n\ndef handler(event, context):\n    return {'hello': from_layer.NAME}\n"
WITH_PACKAGE = "from lib.part7 import module7\n\n\ndef handler(event, context):\n    return {'hello': module7.NAME}\n"


@pytest.mark.timeout(300)
def test_cold_starts_of_large_code_are_those_of_a_small_function(platform: Platform, tmp_path: Path) -> None:
    deploy(platform, EXAMPLES / "node-hello", "--memory", str(MEMORY_MB))
    with built_image(tmp_path) as image:
        deploy(platform, EXAMPLES / "image-function", "--image", image, "--memory", str(MEMORY_MB))
    small = platform.create(HANDLER, MemorySize=MEMORY_MB)
    layered = platform.create(WITH_LAYER, MemorySize=MEMORY_MB, Layers=[_publish_layer(platform)])
    many = platform.create({"app.py": WITH_PACKAGE, **_modules()}, MemorySize=MEMORY_MB)
    # Environments of other benchmarks may fill the worker, and none is evicted that has just served.
    time.sleep(RESIDENCY_MS / 1000 + 0.5)

    times = _interleaved(platform, [small, layered, many], COLDS)
    times |= _interleaved(platform, ["node-hello", "image-function"], OTHER_COLDS)

    medians = {name: statistics.median(measured) for name, measured in times.items()}
    table = Table("cold start of", "median", "slowest", "beside the small function", "at most", title=RUNTIME)
    for title, name, limit in (
        ("a small function", small, ""),
        ("one with a 60 MB layer", layered, f"{LIMIT}x"),
        ("one with a 1,000-file package", many, f"{LIMIT}x"),
        ("examples/node-hello (nodejs22.x)", "node-hello", ""),
        ("examples/image-function", "image-function", ""),
    ):
        ratio = medians[name] / medians[small]
        table.add_row(title, f"{medians[name]:.0f} ms", f"{max(times[name]):.0f} ms", f"{ratio:.2f}x", limit)
    Console(width=100).print(table)
    for name in (layered, many):
        assert medians[name] <= LIMIT * medians[small]


def _interleaved(platform: Platform, names: list[str], count: int) -> dict[str, list[float]]:
    """Time `count` cold starts of each function, in ms, after one that is not counted; in another order each round."""
    times: dict[str, list[float]] = {name: [] for name in names}
    order = random.Random(1)
    for each in range(count + 1):
        for name in order.sample(names, len(names)):
            elapsed = _cold(platform, name, str(each))
            if each:
                times[name].append(elapsed)
    return times


def _cold(platform: Platform, name: str, mark: str) -> float:
    """Time the first invocation after an update of the function's settings, which ends its idle environments."""
    client = platform.client()
    client.update_function_configuration(FunctionName=name, Environment={"Variables": {"MARK": mark}})
    platform.wait_until(
        lambda: client.get_function_configuration(FunctionName=name)["LastUpdateStatus"] == "Successful", "updated"
    )
    # Not beside the removal of the environment before.
    platform.wait_until(lambda: not _environments(platform, name), "its environments are gone")
    began = time.perf_counter()
    answer = client.invoke(FunctionName=name, Payload=b'{"name": "Ada"}', LogType="Tail")
    elapsed = (time.perf_counter() - began) * 1000
    body = json.loads(answer["Payload"].read())
    assert "FunctionError" not in answer, body
    assert b"Init Duration" in base64.b64decode(answer["LogResult"]), "it was a cold start"
    return elapsed


def _environments(platform: Platform, name: str) -> list[Any]:
    return [item for item in platform.containers() if item["Labels"].get("lambdock.function") == name]


def _publish_layer(platform: Platform) -> str:
    """Publish 60 MB, half of them random, so that the archive stays below what a request may hold."""
    noise = random.Random(2)
    size = LAYER_BYTES // LAYER_FILES
    files: dict[str, bytes] = {"python/from_layer.py": b"NAME = 'world'\n"}
    for each in range(LAYER_FILES):
        files[f"data/{each}.bin"] = noise.randbytes(size // 2) + bytes(size // 2)
    published = platform.client().publish_layer_version(LayerName="large", Content={"ZipFile": _zip(files)})
    return str(published["LayerVersionArn"])


def _modules() -> Mapping[str, str]:
    return {
        f"lib/part{each % 20}/module{each}.py": f"NAME = 'world'\nNUMBER = {each}\n" for each in range(PACKAGE_FILES)
    }


def _zip(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()
