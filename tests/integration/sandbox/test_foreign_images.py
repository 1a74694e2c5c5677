"""Images of anybody's making: nothing in them is known, and nothing in them is trusted."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.foreign_images import scratch_image, static_busybox
from tests.integration.sandbox.bench import Bench, finish, python, run, say
from tests.integration.sandbox.test_sandbox_lifecycle import attached, left_files
from tests.waiting import wait_until
from worker.engine import DockerEngine
from worker.sandbox.driver import (
    ImageStartFailedError,
    ProcessSpec,
    SandboxGoneError,
    SandboxStartFailedError,
    WorkingDirectoryError,
)

pytestmark = pytest.mark.docker


@pytest.fixture(scope="session")
def scratch(engine: DockerEngine) -> Iterator[str]:
    """An image with one program and two files: no shell by that name, no users, no directories but its own."""
    files = {
        "busybox": static_busybox(),
        "data/plain": (b"from the image", 0o644),
        "kept/file": (b"kept", 0o644),
    }
    changes = [
        "VOLUME /kept",
        "VOLUME /tmp/",
        "LABEL lambdock.worker=somebody lambdock.epoch=99 lambdock.environment=forged other=theirs",
        "EXPOSE 8080",
        "ENV FROM_IMAGE=1",
        "USER 0:0",
        'HEALTHCHECK CMD ["/busybox", "true"]',
    ]
    with scratch_image(engine.client, files, changes) as name:
        yield name


def shell(script: str, **changes: object) -> ProcessSpec:
    values: dict[str, object] = {"argv": ("/busybox", "sh", "-c", script), "env": {"PATH": "/"}, "cwd": "/"}
    return ProcessSpec(**(values | changes))  # type: ignore[arg-type]


async def test_image_from_nothing_runs_as_our_user_with_exactly_its_environment(bench: Bench, scratch: str) -> None:
    status, said = await say(
        bench.driver(),
        bench.foreign_spec(image=scratch),
        shell("/busybox id; /busybox env | /busybox sort; /busybox pwd", env={"A": "1", "B": "two words"}, cwd="/data"),
    )

    assert status.code == 0
    lines = said.splitlines()
    assert lines[0].startswith("uid=993 gid=990")
    # The shell's own, and HOME, which the engine sets where nobody does.
    assert {line for line in lines[1:-1] if line.partition("=")[0] not in ("PWD", "OLDPWD", "SHLVL", "HOME")} == {
        "A=1",
        "B=two words",
        "FROM_IMAGE=1",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    }
    assert lines[-1] == "/data"


async def test_nothing_but_tmp_is_writable_and_volumes_keep_what_the_image_has(bench: Bench, scratch: str) -> None:
    script = """
for place in / /data /kept /etc /run /var /tmp; do
  if /busybox touch $place/new 2>/dev/null; then echo "$place writable"; fi
done
/busybox cat /kept/file
"""
    spec = replace(bench.foreign_spec(image=scratch), volumes=("/kept", "/tmp/"))

    _, said = await say(bench.driver(), spec, shell(script))

    assert said == "/tmp writable\nkept"
    assert volumes_of(bench) == []


async def test_labels_and_checks_of_the_image_are_not_ours(bench: Bench, scratch: str) -> None:
    driver = bench.driver()
    spec = replace(bench.foreign_spec(image=scratch), volumes=("/kept", "/tmp/"))
    running = await run(driver, await driver.start(spec), shell("echo up; exec /busybox sleep 100"))
    await running.line()

    found = [bench.engine.client.api.inspect_container(each) for each in bench.owned()]
    await finish(running)

    assert len(found) == 2
    for container in found:
        labels = container["Config"]["Labels"]
        assert (labels["lambdock.worker"], labels["lambdock.epoch"]) == (bench.worker_id, "1")
        assert labels["lambdock.environment"] == spec.environment_id
        assert "Health" not in container["State"]
    assert bench.owned() == []
    assert left_files(bench) == []
    assert volumes_of(bench) == []
    assert str(bench.state_dir) not in attached()


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (("/nope", "x"), "fork/exec /nope: no such file or directory"),
        (("nope",), 'exec: "nope": executable file not found in $PATH'),
        (("/data/plain",), "fork/exec /data/plain: permission denied"),
        (("/data",), "fork/exec /data: permission denied"),
        ((), "Couldn't find valid bootstrap(s): []"),
    ],
)
async def test_program_that_can_t_be_executed_says_so(
    bench: Bench, scratch: str, argv: tuple[str, ...], reason: str
) -> None:
    status, _ = await say(bench.driver(), bench.foreign_spec(image=scratch), shell("", argv=argv))

    assert status.not_executed == reason
    assert status.code in (126, 127)


async def test_program_that_ends_with_127_by_itself_was_executed(bench: Bench, scratch: str) -> None:
    status, _ = await say(bench.driver(), bench.foreign_spec(image=scratch), shell("echo mine; exit 127"))

    assert (status.code, status.not_executed) == (127, "")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/nope", "the working directory doesn't exist: /nope"),
        ("/data/plain", "the working directory doesn't exist: /data/plain"),
        ("/tmp/nope", "the working directory doesn't exist: /tmp/nope"),
        ("data", "the working directory 'data' is invalid, it needs to be an absolute path"),
    ],
)
async def test_missing_working_directory_is_refused_and_leaves_nothing(
    bench: Bench, scratch: str, path: str, reason: str
) -> None:
    driver = bench.driver()
    sandbox = await driver.start(bench.foreign_spec(image=scratch))

    with pytest.raises(WorkingDirectoryError) as refused:
        await run(driver, sandbox, shell("echo here", cwd=path))
    sandbox.close_listeners()
    await driver.destroy(sandbox)

    assert str(refused.value) == reason
    assert bench.owned() == []
    assert left_files(bench) == []


@pytest.mark.parametrize("path", ["/kept", "/tmp", "/data/"])
async def test_working_directory_of_the_image_is_entered(bench: Bench, scratch: str, path: str) -> None:
    spec = replace(bench.foreign_spec(image=scratch), volumes=("/kept", "/tmp/"))

    _, said = await say(bench.driver(), spec, shell("/busybox pwd", cwd=path))

    assert said.strip() in (path, path.rstrip("/"))


async def test_flushed_log_holds_all_that_was_written_in_both_streams(bench: Bench, scratch: str) -> None:
    """Also a line that has not ended, and more than the engine's pipes hold."""
    driver = bench.driver()
    script = """
i=0; while [ $i -lt 3000 ]; do echo "out $i padding padding padding"; echo "err $i padding padding" >&2; i=$((i+1))
done
printf unfinished; echo done > /tmp/done; read -r _ < /tmp/never
"""
    sandbox = await driver.start(bench.foreign_spec(image=scratch))
    running = await run(driver, sandbox, shell("/busybox mkfifo /tmp/never; " + script))
    text = b""

    def readable() -> None:
        nonlocal text
        with contextlib.suppress(BlockingIOError):
            text += os.read(running.log, 65536)

    asyncio.get_running_loop().add_reader(running.log, readable)
    pid = main_container(bench)["State"]["Pid"]
    await wait_until(lambda: os.path.exists(f"/proc/{pid}/root/tmp/done"), "everything has been written", within_s=30)

    await driver.flush_log(sandbox)
    with contextlib.suppress(BlockingIOError):
        text += os.read(running.log, 1 << 20)
    asyncio.get_running_loop().remove_reader(running.log)
    await finish(running)

    lines = text.decode().replace("unfinished", "unfinished\n").splitlines()
    assert [line for line in lines if line.startswith("out")] == [
        f"out {i} padding padding padding" for i in range(3000)
    ]
    assert [line for line in lines if line.startswith("err")] == [f"err {i} padding padding" for i in range(3000)]
    assert len(lines) == 6001
    assert "unfinished" in lines


async def test_sandbox_that_closes_its_output_is_not_waited_for(bench: Bench) -> None:
    driver = bench.driver()
    sandbox = await driver.start(bench.foreign_spec())
    code = "import os\nprint('up', flush=True)\nos.close(1); os.close(2)\nwhile True: pass"
    running = await run(driver, sandbox, code)
    await running.line()

    async with asyncio.timeout(2):
        await driver.flush_log(sandbox)
    await finish(running)


@pytest.mark.parametrize("same", [True, False])
async def test_restart_keeps_tmp_and_reopens_the_sockets(bench: Bench, scratch: str, same: bool) -> None:
    driver = bench.driver()
    spec = replace(bench.foreign_spec(image=scratch), listeners=(("127.0.0.1", 9002),))
    count = "echo x >> /tmp/count; /busybox wc -l < /tmp/count; exit 5"
    first = await run(driver, await driver.start(spec), shell(count))
    first_status, first_said = await first.ended()
    first.sandbox.close_listeners()

    sandbox = await driver.restart(first.sandbox)
    second = await run(driver, sandbox, shell(count if same else count + " "))
    second_status, second_said = await second.ended()

    assert (first_status.code, first_said) == (5, "1\n")
    assert (second_status.code, second_said) == (5, "2\n")
    assert len(bench.owned()) == 2
    os.close(first.log)
    await finish(second)
    assert bench.owned() == []


async def test_memory_is_counted_and_limited_for_the_image_s_own_container(bench: Bench) -> None:
    driver = bench.driver()
    running = await run(
        driver,
        await driver.start(bench.foreign_spec(memory_mb=256)),
        "x = bytearray(100 << 20); print('up', flush=True)",
    )
    await running.line()
    await running.ended()
    peak_mb = driver.memory_peak_mb(running.sandbox)
    await finish(running)

    status, _ = await say(driver, bench.foreign_spec(memory_mb=128), "x = bytearray(400 << 20)")

    assert 100 <= peak_mb <= 256
    assert (status.code, status.oom_killed) == (137, True)


async def test_image_runs_on_when_its_holder_dies_and_ends_when_it_is_told_to(bench: Bench) -> None:
    driver = bench.driver()
    running = await run(
        driver, await driver.start(bench.foreign_spec()), "print('up', flush=True)\nimport signal; signal.pause()"
    )
    await running.line()
    bench.engine.client.api.kill(running.sandbox.id)
    await wait_until(lambda: not holder_of(bench, running.sandbox.id)["State"]["Running"], "the holder is dead")

    assert not running.sandbox.exited.done()
    await driver.kill(running.sandbox)
    status, _ = await running.ended()
    assert status.code == 137
    running.sandbox.close_listeners()
    again = await run(driver, await driver.restart(running.sandbox), "print('again')")
    assert (await again.ended())[1] == "again\n"
    os.close(running.log)
    await finish(again)
    assert bench.owned() == []


async def test_sandbox_whose_holder_dies_before_its_release_has_ended(bench: Bench) -> None:
    driver = bench.driver()
    sandbox = await driver.start(bench.foreign_spec())

    bench.engine.client.api.kill(sandbox.id)
    async with asyncio.timeout(10):
        await asyncio.wait([sandbox.exited])

    with pytest.raises(SandboxGoneError):
        await driver.release(sandbox, python("print('never')"))
    sandbox.close_listeners()
    await driver.destroy(sandbox)


@pytest.mark.parametrize("after_s", [0.0, 0.02, 0.1, 0.3])
async def test_cancelled_release_leaves_nothing_once_destroyed(bench: Bench, after_s: float) -> None:
    driver = bench.driver()
    sandbox = await driver.start(replace(bench.foreign_spec(), volumes=("/opt",)))

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(after_s):
            await driver.release(sandbox, python("import signal; signal.pause()"))
    sandbox.close_listeners()
    await driver.destroy(sandbox)

    assert sandbox.exited.done()
    assert bench.owned() == []
    assert left_files(bench) == []
    assert volumes_of(bench) == []
    assert str(bench.state_dir) not in attached()


async def test_image_that_is_gone_fails_at_its_release(bench: Bench) -> None:
    driver = bench.driver()
    sandbox = await driver.start(replace(bench.foreign_spec(), image="lambdock-no-such-image:none"))

    with pytest.raises(SandboxStartFailedError, match="no-such-image"):
        await driver.release(sandbox, python("pass"))
    sandbox.close_listeners()
    await driver.destroy(sandbox)

    assert bench.owned() == []


@pytest.mark.parametrize(
    ("files", "volumes", "words"),
    [
        ({"tmp": b""}, (), "not a directory"),
        ({}, ("/proc/x",), "/proc"),
        ({}, ("/",), "destination can't be '/'"),
        ({}, tuple(f"/{number}" for number in range(65)), "65 volumes"),
        # The engine would mount this one over ours, and writable: as much of the host's disk as there is.
        ({"data/file": b""}, ("../../data",), "absolute"),
        ({"etc/group": b"plain:x:5:\n 990:x:0:\n"}, (), "named 990"),
        ({"real/group": b"990:x:0:\n", "etc/group": "../real/group"}, (), "named 990"),
        ({"etc/group": b"plain:x:5:\n" * 100_000}, (), "/etc/group"),
    ],
)
async def test_image_that_can_not_be_isolated_is_refused_as_the_image_s_fault(
    bench: Bench, engine: DockerEngine, files: dict[str, bytes | str], volumes: tuple[str, ...], words: str
) -> None:
    driver = bench.driver()
    with scratch_image(engine.client, {"busybox": static_busybox(), **files}) as name:
        sandbox = await driver.start(replace(bench.foreign_spec(image=name), volumes=volumes))
        with pytest.raises(ImageStartFailedError, match=re.escape(words)):
            await driver.release(sandbox, shell("exec /busybox sleep 100"))
        sandbox.close_listeners()
        await driver.destroy(sandbox)

    assert bench.owned() == []
    assert left_files(bench) == []
    assert volumes_of(bench) == []


async def test_group_that_is_named_like_ours_and_is_another_gives_nothing(bench: Bench, engine: DockerEngine) -> None:
    groups = b"root:x:0:\nours:x:990:\n9900:x:0:\n"
    with scratch_image(engine.client, {"busybox": static_busybox(), "etc/group": groups}) as name:
        _, said = await say(
            bench.driver(), bench.foreign_spec(image=name), shell("/busybox grep Groups /proc/self/status")
        )

    assert said.split() == ["Groups:", "990"]


async def test_killed_at_its_gate_in_a_later_life_it_is_told_ended(bench: Bench) -> None:
    driver = bench.driver()
    running = await run(driver, await driver.start(bench.foreign_spec()), "raise SystemExit(3)")
    async with asyncio.timeout(20):
        await asyncio.wait([running.sandbox.exited])
    running.sandbox.close_listeners()
    again = await driver.restart(running.sandbox)

    await driver.kill(again)

    async with asyncio.timeout(5):
        assert (await asyncio.shield(again.exited)).code == 137
    again.close_listeners()
    await driver.destroy(again)
    os.close(running.log)
    assert bench.owned() == []


async def test_sweep_removes_both_containers_of_a_predecessor_s_sandbox(bench: Bench) -> None:
    predecessor = bench.driver(epoch=1)
    spec = replace(bench.foreign_spec(), volumes=("/opt",))
    running = await run(predecessor, await predecessor.start(spec), "import signal; signal.pause()")
    await predecessor.close()
    running.sandbox.close_listeners()
    os.close(running.log)
    assert len(bench.owned()) == 2
    assert len(volumes_of(bench)) == 2

    successor = bench.driver(epoch=2)
    assert bench.owner(1) in await successor.owners()
    assert await successor.sweep() == 1

    assert bench.owned() == []
    assert volumes_of(bench) == []
    assert left_files(bench) == []


def main_container(bench: Bench) -> dict:
    """Return what the engine tells of the one container that is no holder."""
    found = [bench.engine.client.api.inspect_container(each) for each in bench.owned()]
    return next(each for each in found if each["HostConfig"]["NetworkMode"].startswith("container:"))


def holder_of(bench: Bench, container_id: str) -> dict:
    found: dict = bench.engine.client.api.inspect_container(container_id)
    return found


def volumes_of(bench: Bench) -> list[str]:
    label = f"lambdock.worker={bench.worker_id}"
    return [each["Name"] for each in bench.engine.client.api.volumes(filters={"label": label})["Volumes"] or ()]
