import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runtimes.catalog import HERE

GATE = HERE / "python" / "gate.py"
ENV = "/usr/bin/env"
OPEN_DESCRIPTORS = """
import json, os
seen = {}
for fd in range(1024):
    try:
        seen[fd] = os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        pass
print(json.dumps(seen))
"""


@dataclass
class Outcome:
    code: int
    console: str
    log: str


class Gate:
    """A gate in a directory of its own, started with variables and descriptors that must not get through."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for name in ("assignment", "log"):
            os.mkfifo(directory / name)
        # As the worker holds it: for reading and writing, so that it neither blocks nor ends.
        self.log = os.open(directory / "log", os.O_RDWR | os.O_NONBLOCK)

    def close(self) -> None:
        os.close(self.log)

    def run(self, assignment: bytes, extra_fd: int | None = None) -> Outcome:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(GATE), str(self.directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={"FROM_THE_CONTAINER": "1", "PYTHONPATH": "/nowhere"},
            pass_fds=[extra_fd] if extra_fd is not None else [],
        )
        try:
            (self.directory / "assignment").write_bytes(assignment)
            _, console = process.communicate(timeout=20)
        except BrokenPipeError:
            _, console = process.communicate(timeout=20)
        return Outcome(process.returncode, console.decode(), self._read_log())

    def assign(self, argv: list[str], env: dict[str, str] | None = None, cwd: str = "/", **more: Any) -> Outcome:
        return self.run(json.dumps({"argv": argv, "env": env or {}, "cwd": cwd}).encode(), **more)

    def _read_log(self) -> str:
        try:
            return os.read(self.log, 1 << 20).decode()
        except BlockingIOError:
            return ""


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    made = Gate(tmp_path)
    yield made
    made.close()


def test_program_gets_exactly_the_assigned_environment(gate: Gate) -> None:
    outcome = gate.assign([ENV], {"NAME": "värde\n=x", "EMPTY": "", "PATH": "/bin"})

    assert outcome == Outcome(0, "", "NAME=värde\n=x\nEMPTY=\nPATH=/bin\n")


def test_program_gets_an_empty_environment_when_none_is_assigned(gate: Gate) -> None:
    assert gate.assign(["/bin/cat", "/proc/self/environ"]) == Outcome(0, "", "")


def test_program_gets_arguments_and_working_directory_as_assigned(gate: Gate, tmp_path: Path) -> None:
    outcome = gate.assign(["/bin/sh", "-c", 'pwd; printf "%s|" "$0" "$@"', "a b", "ü", ""], cwd=str(tmp_path))

    assert outcome.log == f"{tmp_path}\na b|ü||"


def test_program_has_no_descriptors_but_its_three(gate: Gate) -> None:
    leaked, other = os.pipe()
    try:
        outcome = gate.assign([sys.executable, "-I", "-S", "-c", OPEN_DESCRIPTORS], extra_fd=leaked)
    finally:
        os.close(leaked)
        os.close(other)

    log = str(gate.directory / "log")
    assert json.loads(outcome.log) == {"0": "/dev/null", "1": log, "2": log}


def test_program_has_default_signal_handling(gate: Gate) -> None:
    outcome = gate.assign(
        ["/bin/sh", "-c", "while read -r k v; do case $k in SigIgn:) echo $v;; esac; done </proc/$$/status"]
    )

    # Whoever started the tests may ignore signals too; Python itself ignores these two.
    ignored = int(outcome.log, 16)
    assert not ignored & (1 << signal.SIGPIPE - 1)
    assert not ignored & (1 << signal.SIGXFSZ - 1)


def test_output_and_errors_go_to_the_log_and_the_exit_status_is_the_programs(gate: Gate) -> None:
    outcome = gate.assign(["/bin/sh", "-c", "echo out; echo err >&2; exit 3"])

    assert outcome == Outcome(3, "", "out\nerr\n")


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'{"argv": ["/bin/true"], "env": {}, "cwd": "/"', "not JSON"),
        (b'{"argv": ["/bin/\xff"], "env": {}, "cwd": "/"}', "not JSON"),
        (b"[" * 200_000, "not JSON"),
        (b"[]", "one JSON object"),
        (b'{"argv": ["/bin/true"], "env": {}}', "one JSON object"),
        (b'{"argv": ["/bin/true"], "env": {}, "cwd": "/", "user": 0}', "one JSON object"),
        (b'{"argv": ["/bin/true"], "env": {}, "cwd": "/"} {}', "one JSON object"),
        (b'{"argv": [], "env": {}, "cwd": "/"}', '"argv" must be a list'),
        (b'{"argv": "/bin/true", "env": {}, "cwd": "/"}', '"argv" must be a list'),
        (b'{"argv": [1], "env": {}, "cwd": "/"}', "string, not int"),
        (b'{"argv": ["true"], "env": {}, "cwd": "/"}', "absolute"),
        (b'{"argv": ["/bin/true"], "env": {}, "cwd": "tmp"}', "absolute"),
        (b'{"argv": ["/bin/true"], "env": {}, "cwd": ""}', "absolute"),
        (b'{"argv": ["/bin/true"], "env": [], "cwd": "/"}', '"env" an object'),
        (b'{"argv": ["/bin/true"], "env": {"A": null}, "cwd": "/"}', "'A' must be a string, not NoneType"),
        (b'{"argv": ["/bin/true"], "env": {"A": NaN}, "cwd": "/"}', "'A' must be a string, not float"),
        (b'{"argv": ["/bin/true"], "env": {"A": "x\\u0000y"}, "cwd": "/"}', "'A' contains a NUL"),
        (b'{"argv": ["/bin/true"], "env": {"A": "\\ud800"}, "cwd": "/"}', "'A' is not valid Unicode"),
        (b'{"argv": ["/bin/true"], "env": {"A=B": "x"}, "cwd": "/"}', "can't be the name"),
        (b'{"argv": ["/bin/true"], "env": {"": "x"}, "cwd": "/"}', "can't be the name"),
        (b'{"argv": ["/bin/true"], "env": {"A": "x", "A": "y"}, "cwd": "/"}', "twice"),
        (b" " * (9 << 20), "more than 8388608 bytes"),
    ],
)
def test_malformed_assignment_ends_the_gate_with_a_reason(gate: Gate, assignment: bytes, message: str) -> None:
    outcome = gate.run(assignment)

    assert outcome.code == 70
    assert message in outcome.console
    assert outcome.console.startswith("gate: ")
    assert outcome.console.count("\n") == 1
    assert outcome.log == ""


def test_values_of_variables_are_never_printed(gate: Gate) -> None:
    outcome = gate.run(b'{"argv": ["/bin/true"], "env": {"KEY": "hunter2\\u0000"}, "cwd": "/"}')

    assert outcome.code == 70
    assert "hunter2" not in outcome.console


def test_environment_that_the_kernel_refuses_is_reported_in_both_places(gate: Gate) -> None:
    outcome = gate.assign([ENV], {f"V{number}": "x" * 100_000 for number in range(30)})

    assert outcome.code == 70
    assert outcome.console == outcome.log
    assert outcome.log.startswith("gate: can't run /usr/bin/env: Argument list too long (argv and env take 3000")


def test_missing_program_and_missing_directory_are_reported(gate: Gate) -> None:
    assert "can't run /no/such: No such file" in gate.assign(["/no/such"]).log
    assert "can't enter /no/such: No such file" in gate.assign([ENV], cwd="/no/such").log


def test_missing_assignment_is_reported(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-I", "-S", str(GATE), str(tmp_path / "none")], capture_output=True, text=True, timeout=20
    )

    assert result.returncode == 70
    assert "can't read" in result.stderr
