from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from cli.errors import CliError, UsageError
from cli.health import has_controller, has_worker
from cli.serve.checks import bind, parse_listen, require_root
from cli.serve.events import AllReady, GaveUp, PartDied, PartReady, PartStopped, PartStuck, Stopping
from cli.serve.lines import BoundedLog, LineSplitter
from cli.serve.redis_server import RedisProgram, configuration, parse_version, redis_part, redis_url
from cli.serve.state import MAX_SOCKET_PATH, cell_id, exclusive, socket_path
from cli.serve.supervisor import Part, RestartPolicy
from cli.serve.terminal import JsonTerminal, PrettyTerminal, parse_line
from cli.serve.tree import Plan, Probes, WorkerPlace, platform_parts, worker_places
from cli.settings import ClientSettings, ServeSettings


async def never(_: int) -> bool:
    return False


PROBES = Probes(controller=never, worker=lambda _: never)


def plan(**changes: object) -> Plan:
    values = {
        "state_dir": Path("/var/lib/x y"), "cell": "c1", "listen": "127.0.0.1:4566", "listen_fd": 9,
        "redis_url": "unix:///r?db=0", "workers": worker_places(1, "host", Path("/var/lib/x y")), "controllers": 1,
        **changes,
    }  # fmt: skip
    return Plan(**values)  # type: ignore[arg-type]


def test_restart_delays_double_up_to_the_maximum() -> None:
    delays = [RestartPolicy().delay_s(deaths) for deaths in (1, 2, 3, 6, 7, 1000)]

    assert delays == [0.1, 0.2, 0.4, 3.2, 5.0, 5.0]


def test_the_first_endpoint_variable_that_is_set_wins() -> None:
    assert ClientSettings.read({}).endpoint == "http://127.0.0.1:4566"
    assert ClientSettings.read({"AWS_ENDPOINT_URL": "http://a"}).endpoint == "http://a"
    both = {"AWS_ENDPOINT_URL": "http://a", "AWS_ENDPOINT_URL_LAMBDA": "http://b/", "LAMBDOCK_ENDPOINT": ""}
    assert ClientSettings.read(both).endpoint == "http://b"


def test_the_state_directory_follows_xdg() -> None:
    assert ServeSettings.read({"HOME": "/h"}).state_dir == Path("/h/.local/share/lambdock")
    assert ServeSettings.read({"HOME": "/h", "XDG_DATA_HOME": "/d"}).state_dir == Path("/d/lambdock")


def test_every_part_is_told_of_the_same_cell_and_controllers_inherit_the_socket() -> None:
    redis = Part(name="redis", command=platform_parts(plan(), None, PROBES)[0].command)
    inherited = {"LAMBDOCK_CELL": "other", "LAMBDOCK_ACCOUNT_CONCURRENCY": "5"}
    parts = platform_parts(
        plan(controllers=2, workers=worker_places(2, "host", Path("/var/lib/x y")), inherited=inherited),
        redis,
        PROBES,
    )

    names = [part.name for part in parts]
    assert names == ["redis", "background", "worker-1", "worker-2", "controller-1", "controller-2"]
    for part in parts[1:]:
        assert part.command.env["LAMBDOCK_CELL"] == "c1"
        assert part.command.env["LAMBDOCK_ACCOUNT_CONCURRENCY"] == "5"
        assert part.command.env["LAMBDOCK_BLOB_URL"] == "file:///var/lib/x%20y/blobs"
        assert part.stage > redis.stage
    assert [part.command.env["LAMBDOCK_WORKER_ID"] for part in parts[2:4]] == ["host", "host-2"]
    directories = [part.command.env["LAMBDOCK_STATE_DIR"] for part in parts]
    assert directories == ["/var/lib/x y"] * 3 + ["/var/lib/x y/workers/2"] + ["/var/lib/x y"] * 2
    assert [part.command.pass_fds for part in parts[1:]] == [(), (), (), (9,), (9,)]
    assert parts[5].command.env["LAMBDOCK_LISTEN_FD"] == "9"


@pytest.mark.parametrize(
    ("written", "expected"),
    [("127.0.0.1:0", ("127.0.0.1", 0)), ("[::1]:80", ("::1", 80)), ("localhost:4566", ("localhost", 4566))],
)
def test_listen_addresses(written: str, expected: tuple[str, int]) -> None:
    assert parse_listen(written) == expected


@pytest.mark.parametrize("written", ["4566", ":4566", "::1:80", "a:b", "a:70000", "a:²"])
def test_a_listen_address_that_is_none_is_wrong_usage(written: str) -> None:
    with pytest.raises(UsageError, match=r"HOST:PORT|brackets"):
        parse_listen(written)


def test_a_taken_port_is_named_with_what_to_do() -> None:
    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(CliError, match=rf"port {port} on 127\.0\.0\.1 is taken.*--listen"):
            bind("127.0.0.1", port)


def test_only_root_may_serve() -> None:
    require_root(0)
    with pytest.raises(CliError, match=r"not as user 1000.*sudo lambdock serve"):
        require_root(1000)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc", (7, 0, 15)),
        ("Valkey server v=8.1.0 sha=0", (8, 1, 0)),
        ("Server v=7.2.5", (7, 2, 5)),
        ("something else", None),
    ],
)
def test_server_versions(text: str, version: tuple[int, int, int] | None) -> None:
    assert parse_version(text) == version


@pytest.mark.parametrize(
    ("version", "fsync"), [((6, 2, 14), "always"), ((7, 0, 15), "always"), ((7, 2, 0), "everysec")]
)
def test_writes_are_synced_at_once_where_the_server_cannot_be_waited_for(
    version: tuple[int, int, int], fsync: str
) -> None:
    text = configuration(RedisProgram(path=Path("/r"), version=version), Path('/a "b"'), Path("/s"))

    assert f"appendfsync {fsync}\n" in text
    assert 'dir "/a \\"b\\""\n' in text
    assert "port 0\n" in text
    assert "maxmemory-policy noeviction\n" in text


def test_an_older_server_is_not_started_on_newer_data(tmp_path: Path) -> None:
    (tmp_path / "appendonlydir").mkdir()

    with pytest.raises(CliError, match=r"6\.2\.14, which would start empty"):
        redis_part(RedisProgram(path=Path("/r"), version=(6, 2, 14)), tmp_path, tmp_path / "s")


def test_the_socket_moves_where_its_path_is_short_enough(tmp_path: Path) -> None:
    assert socket_path(Path("/s"), tmp_path) == Path("/s/redis/redis.sock")

    long = Path("/s" + "x" * 120)
    moved = socket_path(long, tmp_path)

    assert len(str(moved)) <= MAX_SOCKET_PATH
    assert moved.parent.stat().st_mode & 0o777 == 0o700
    assert socket_path(long, tmp_path) == moved
    moved.parent.chmod(0o777)
    with pytest.raises(CliError, match="nobody else may enter"):
        socket_path(long, tmp_path)


def test_a_redis_url_quotes_the_path() -> None:
    assert redis_url(Path("/a b/r.sock")) == "unix:///a%20b/r.sock?db=0"


def test_the_cell_is_made_once_and_can_be_overridden(tmp_path: Path) -> None:
    made = cell_id(tmp_path, None)

    assert cell_id(tmp_path, None) == made
    assert cell_id(tmp_path, "mine") == "mine"
    assert cell_id(tmp_path, None) == made
    with pytest.raises(UsageError, match="LAMBDOCK_CELL holds 'Bad'"):
        cell_id(tmp_path, "Bad")


def test_a_state_directory_in_use_is_refused_naming_the_process(tmp_path: Path) -> None:
    with exclusive(tmp_path):
        holder = (tmp_path / "serve.lock").read_text().strip()
        with pytest.raises(CliError, match=rf"process {holder}\)"), exclusive(tmp_path):
            pass
    with exclusive(tmp_path):
        pass


def test_lines_are_put_together_from_chunks_and_cut_when_too_long() -> None:
    splitter = LineSplitter(max_line=4)

    assert splitter.feed(b"a\nb") == [b"a"]
    assert splitter.feed(b"c\n") == [b"bc"]
    assert splitter.feed(b"123456789") == [b"1234", b"5678"]
    assert splitter.end() == [b"9"]


def test_a_log_keeps_two_files_of_bounded_size(tmp_path: Path) -> None:
    log = BoundedLog(tmp_path / "log" / "x.log", max_bytes=10)
    for number in range(7):
        log.write(f"line{number}".encode())
    log.close()

    kept = {path.name: path.read_text() for path in (tmp_path / "log").iterdir()}
    assert kept == {"x.log": "line6\n", "x.log.1": "line5\n"}


def test_levels_are_read_from_json_and_from_redis_and_tracebacks_are_warnings() -> None:
    assert parse_line("worker", b'{"level": "error", "message": "no", "x": 1}').level == "ERROR"
    assert parse_line("redis", b"12:M 21 Nov 2026 02:00:00.123 # out of memory").level == "WARNING"
    assert parse_line("redis", b"12:M 21 Nov 2026 02:00:00.123 * Ready").message == "Ready"
    assert parse_line("worker", b"Traceback (most recent call last):").level == "WARNING"


def test_the_terminal_shows_warnings_only_and_tells_a_crash_loop(tmp_path: Path) -> None:
    buffer = io.StringIO()
    shown = PrettyTerminal(Console(file=buffer, width=200), endpoint="http://e", log_dir=tmp_path, is_verbose=False)

    shown.line("worker", b'{"level": "INFO", "message": "quiet"}')
    shown.line("worker", b'{"level": "WARNING", "message": "loud"}')
    shown.line("redis", b"12:M 21 Nov 2026 02:00:00.123 # starting up")
    shown.event(PartReady(part="redis", took_s=0.1, is_restart=False))
    shown.line("redis", b"12:M 21 Nov 2026 02:00:00.123 # disk is full")
    shown.event(PartDied(part="worker", status=-9, deaths=3, restart_in_s=0.4, last_lines=("last word",)))
    shown.event(PartStuck(part="worker", budget_s=60))
    shown.event(AllReady(took_s=2))
    shown.event(GaveUp(part="controller", deaths=4, last_lines=("why",)))
    shown.event(Stopping())
    shown.event(PartStopped(part="redis", took_s=0.1, is_killed=True))

    text = buffer.getvalue()
    assert "quiet" not in text
    assert "starting up" not in text
    assert "\x1b" not in text
    assert "export LAMBDOCK_ENDPOINT=http://e" in text
    for expected in ("loud", "disk is full", "killed by signal 9", "keeps dying", "last word", "http://e", "why"):
        assert expected in text
    assert str(tmp_path / "worker.log") in text


def test_the_json_terminal_writes_one_object_for_each_line_and_event() -> None:
    written: list[object] = []
    shown = JsonTerminal(written.append, endpoint="http://e")

    shown.line("worker", b'{"level": "INFO", "message": "m", "request_id": "r"}')
    shown.event(AllReady(took_s=0.5))

    assert json.loads(json.dumps(written)) == [
        {"process": "worker", "level": "INFO", "message": "m", "request_id": "r"},
        {
            "process": "serve",
            "level": "INFO",
            "message": "AllReady",
            "took_s": 0.5,
            "endpoint": "http://e",
        },
    ]


def test_a_worker_is_there_when_a_life_of_its_name_is() -> None:
    body = {"workers": {"host@3": {}, "host-2@1": {}}}

    assert has_worker(body, "host")
    assert has_worker(body, "host-2")
    assert not has_worker(body, "hos")
    assert not has_worker({}, "host")


def test_a_controller_is_there_when_its_own_process_says_so() -> None:
    body = {"parts": {"redis": "ok"}, "controllers": {"a": {"host": "h", "pid": 7}}}

    assert has_controller(body, "h", 7)
    assert not has_controller(body, "h", 8)
    assert not has_controller(body, "other", 7)
    assert has_controller({"parts": {"redis": "no answer"}, "controllers": {}}, "h", 8)


def test_the_first_worker_keeps_name_and_directory_when_others_join() -> None:
    (alone,) = worker_places(1, "host", Path("/s"))
    first, second, third = worker_places(3, "host", Path("/s"))

    assert first == alone == WorkerPlace(worker_id="host", state_dir=Path("/s"))
    assert second == WorkerPlace(worker_id="host-2", state_dir=Path("/s/workers/2"))
    assert third.state_dir == Path("/s/workers/3")


def test_counts_of_processes_come_from_the_environment() -> None:
    settings = ServeSettings.read({"LAMBDOCK_WORKERS": "3", "LAMBDOCK_CONTROLLERS": "2"})

    assert (settings.workers, settings.controllers) == (3, 2)
    assert ServeSettings.read({}).workers == 1


@pytest.mark.parametrize("written", ["0", "65", "two", "-1", "1.5", "²"])
def test_an_impossible_count_is_named(written: str) -> None:
    with pytest.raises(UsageError, match="LAMBDOCK_WORKERS"):
        ServeSettings.read({"LAMBDOCK_WORKERS": written})
