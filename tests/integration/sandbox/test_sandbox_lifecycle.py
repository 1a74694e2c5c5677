"""What is left, and what is not, after kills, restarts, cancellations and crashes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import time
from dataclasses import replace

import pytest

from tests.integration.sandbox.bench import Bench, finish, run
from worker.sandbox import selftest
from worker.sandbox.driver import SandboxStartFailedError

pytestmark = pytest.mark.docker


async def test_kill_leaves_no_running_instruction(bench: Bench) -> None:
    driver = bench.driver()
    code = """
import mmap, os
shared = open("/tmp/count", "w+b"); shared.truncate(8)
view = memoryview(mmap.mmap(shared.fileno(), 8)).cast("Q")
view[0] = 1
print("up", flush=True)
while True: view[0] += 1
"""
    running = await run(driver, await driver.start(bench.spec()), code)
    assert await running.line() == "up\n"

    pid = bench.engine.client.api.inspect_container(running.sandbox.id)["State"]["Pid"]
    count = os.open(f"/proc/{pid}/root/tmp/count", os.O_RDONLY)

    began = time.perf_counter()
    await driver.kill(running.sandbox)
    took_s = time.perf_counter() - began
    at_kill = os.pread(count, 8, 0)
    status, _ = await running.ended(5)

    assert int.from_bytes(at_kill, "little") > 0
    assert os.pread(count, 8, 0) == at_kill
    os.close(count)
    assert status.code == 137
    assert took_s < 0.2
    assert not bench.engine.client.api.inspect_container(running.sandbox.id)["State"]["Paused"]
    await finish(running)


async def test_restart_keeps_tmp_and_closes_the_network_again(bench: Bench) -> None:
    driver = bench.driver()
    first = await run(
        driver, await driver.start(bench.spec()), "open('/tmp/kept', 'w').write('kept'); raise SystemExit(5)"
    )
    status, _ = await first.ended()
    first.sandbox.runtime_api_listener.close()

    sandbox = await driver.restart(first.sandbox)
    second = await run(
        driver, sandbox, "print(open('/tmp/kept').read(), sum('eth0' in line for line in open('/proc/net/route')))"
    )
    _, said = await second.ended()

    assert status.code == 5
    assert said == "kept 1\n"
    os.close(first.log)
    await finish(second)


async def test_destroyed_sandbox_leaves_nothing(bench: Bench) -> None:
    driver = bench.driver()
    sandbox = await driver.start(bench.spec())
    file = next(bench.state_dir.glob("tmp/**/*.ext4"), None)
    sandbox.runtime_api_listener.close()

    await driver.destroy(sandbox)

    assert file is not None
    assert bench.owned() == []
    assert left_files(bench) == []
    assert str(bench.state_dir) not in attached()


@pytest.mark.parametrize("after_s", [0.0, 0.01, 0.05, 0.2, 0.4])
async def test_cancelled_start_leaves_nothing(bench: Bench, after_s: float) -> None:
    driver = bench.driver()

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(after_s):
            sandbox = await driver.start(bench.spec())
            sandbox.runtime_api_listener.close()
            await driver.destroy(sandbox)
    await driver.close()

    assert bench.owned() == []
    assert left_files(bench) == []
    assert str(bench.state_dir) not in attached()


async def test_starts_and_destroys_overlap(bench: Bench) -> None:
    driver = bench.driver()

    started = await asyncio.gather(*(driver.start(bench.spec()) for _ in range(4)))
    running = [await run(driver, sandbox, "print('here')") for sandbox in started]
    said = [await each.ended() for each in running]
    await asyncio.gather(*(finish(each) for each in running))

    assert [text for _, text in said] == ["here\n"] * 4
    assert bench.owned() == []
    assert left_files(bench) == []


async def test_start_of_an_image_without_a_gate_fails_and_leaves_nothing(bench: Bench) -> None:
    driver = bench.driver()
    name = f"lambdock-test-{bench.worker_id}:none"
    made = bench.engine.client.api.import_image_from_data(b"\0" * 1024, repository=name.split(":")[0], tag="none")
    assert made
    try:
        with pytest.raises(SandboxStartFailedError, match="container"):
            await driver.start(replace(bench.spec(), image=name))
    finally:
        bench.engine.client.api.remove_image(name, force=True)

    assert bench.owned() == []
    assert left_files(bench) == []


async def test_sweep_removes_what_predecessors_left_and_nothing_else(bench: Bench) -> None:
    predecessor = bench.driver(epoch=1)
    other = bench.driver(worker_id=f"{bench.worker_id}-other")
    old = [await predecessor.start(bench.spec()) for _ in range(2)]
    foreign = await other.start(bench.spec())
    await predecessor.close()
    for sandbox in old:
        sandbox.runtime_api_listener.close()

    successor = bench.driver(epoch=2)
    young = await successor.start(bench.spec())
    removed = await successor.sweep()

    assert removed == 2
    assert bench.owned() == [young.id]
    assert not any(sandbox.run_dir.exists() for sandbox in old)
    assert not foreign.exited.done()
    assert not young.exited.done()
    assert len(list(bench.state_dir.glob(f"tmp/{bench.cell}/{bench.worker_id}/*/*.ext4"))) == 1
    assert await successor.sweep() == 0
    for driver, sandbox in ((other, foreign), (successor, young)):
        sandbox.runtime_api_listener.close()
        await driver.destroy(sandbox)


async def test_selftest_finds_every_fast_path_and_leaves_nothing(bench: Bench) -> None:
    paths = await selftest.probe(
        bench.engine, bench.image, owner=bench.owner(), state_dir=bench.state_dir, host_state_dir=bench.state_dir
    )

    assert paths.missing == {}
    assert paths.has_cgroups
    assert paths.has_loop_disks
    assert bench.owned() == []
    assert str(bench.state_dir) not in attached()


async def test_code_outside_the_state_directory_is_refused_when_the_engine_sees_other_paths(bench: Bench) -> None:
    driver = bench.driver(host_state_dir=bench.state_dir / "elsewhere")

    with pytest.raises(SandboxStartFailedError, match="outside the state directory"):
        await driver.start(replace(bench.spec(), code_dir=bench.state_dir.parent))

    assert left_files(bench) == []


def left_files(bench: Bench) -> list[str]:
    """Return what sandboxes left under the state directory; templates and the shared host files are meant to stay."""
    keep = {"hosts", "resolv.conf"}
    runs = [p for p in bench.state_dir.glob("run/*/*/*/*") if p.name not in keep]
    return [str(path) for path in (*runs, *bench.state_dir.glob("tmp/*/**/*.ext4"))]


def attached() -> str:
    return subprocess.run(["losetup", "-a"], capture_output=True, text=True, check=True).stdout
