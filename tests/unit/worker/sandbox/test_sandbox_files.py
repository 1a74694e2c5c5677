"""Disks, run directories, DNS messages and exit codes: all but the engine."""

from __future__ import annotations

import os
import signal
import stat
from pathlib import Path

import pytest

from worker.sandbox.dns import is_answer, server_failure, system_resolvers
from worker.sandbox.driver import ProcessSpec
from worker.sandbox.exits import shell_code
from worker.sandbox.run_dir import GateError, RunDir, write_assignment
from worker.sandbox.tmp_disk import copy_sparse, file_size_mb

QUERY = bytes.fromhex("beef01000001000000000000") + b"\x04name\x07example\0\0\1\0\1"


def test_servfail_repeats_the_question() -> None:
    answer = server_failure(QUERY)

    assert answer[:2] == QUERY[:2]
    assert answer[2] & 0x80
    assert answer[3] & 0x0F == 2
    assert answer[4:] == QUERY[4:]
    assert is_answer(QUERY, answer)


@pytest.mark.parametrize("message", [b"", QUERY, b"\0\0" + server_failure(QUERY)[2:], server_failure(QUERY)[:11]])
def test_what_is_no_answer_is_not_taken_for_one(message: bytes) -> None:
    assert not is_answer(QUERY, message)


def test_resolvers_are_read_from_resolv_conf(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text("# nameserver 1.1.1.1\nsearch x\nnameserver 10.0.0.53\nnameserver junk\nnameserver fd00::53\n")

    assert system_resolvers(file) == [("10.0.0.53", 53), ("fd00::53", 53)]
    assert system_resolvers(tmp_path / "missing") == []


@pytest.mark.parametrize(("status", "code"), [(0, 0), (3 << 8, 3), (signal.SIGKILL, 137), (signal.SIGSEGV | 0x80, 139)])
def test_wait_status_reads_as_a_shell_reports_it(status: int, code: int) -> None:
    assert shell_code(status) == code


def test_sparse_copy_has_the_content_and_not_the_holes(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    with source.open("wb") as file:
        file.truncate(64 << 20)
        for offset in (0, 5 << 20, (64 << 20) - 4):
            file.seek(offset)
            file.write(b"data")

    copy_sparse(source, target)

    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_blocks * 512 < 1 << 20
    with pytest.raises(FileExistsError):
        copy_sparse(source, target)


def test_disk_file_is_larger_than_what_is_usable() -> None:
    assert file_size_mb(512) == 512 + 24 + 8
    assert file_size_mb(10_240) == 10_240 + 24 + 160


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDir:
    made = RunDir(tmp_path / "a" / "e1")
    made.create()
    return made


def test_fifos_are_the_sandbox_users_alone(run_dir: RunDir) -> None:
    for name in ("log", "assignment"):
        found = (run_dir.path / name).stat()
        assert stat.S_ISFIFO(found.st_mode)
        assert stat.S_IMODE(found.st_mode) == 0o600
        assert (found.st_uid, found.st_gid) == (993, 990)


async def test_gate_gets_the_assignment_once_somebody_reads(run_dir: RunDir) -> None:
    reader = os.open(run_dir.path / "assignment", os.O_RDONLY | os.O_NONBLOCK)

    gate = await run_dir.await_gate(lambda: False, 1)
    await write_assignment(gate, ProcessSpec(argv=("/bin/x",), env={"A": "ü"}))

    assert os.read(reader, 4096).decode() == "{\nbecome '/var/task' 'A=ü' '/bin/x'\n}\n"
    assert os.read(reader, 1) == b""
    os.close(reader)


async def test_assignment_for_nobody_is_an_error(run_dir: RunDir) -> None:
    reader = os.open(run_dir.path / "assignment", os.O_RDONLY | os.O_NONBLOCK)
    gate = await run_dir.await_gate(lambda: False, 1)
    os.close(reader)

    with pytest.raises(GateError, match="gone"):
        await write_assignment(gate, ProcessSpec(argv=("/bin/x",), env={}))


async def test_gate_that_never_comes_is_an_error(run_dir: RunDir) -> None:
    with pytest.raises(GateError, match="ended before"):
        await run_dir.await_gate(lambda: True, 1)
    with pytest.raises(GateError, match="nothing waits"):
        await run_dir.await_gate(lambda: False, 0.01)


def test_removed_directory_may_be_removed_again(run_dir: RunDir) -> None:
    run_dir.renew_assignment()
    run_dir.remove()
    run_dir.remove()

    assert not run_dir.path.exists()
