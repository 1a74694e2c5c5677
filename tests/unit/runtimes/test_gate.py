import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from runtimes.catalog import SHARED
from worker.sandbox.assignment import assignment
from worker.sandbox.driver import ProcessSpec

GATE = SHARED / "gate.sh"
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
#: Opens the descriptors that are named first, and becomes the program behind them.
LEAK = """
import os, sys
numbers, program = sys.argv[1], sys.argv[2:]
source = os.open("/dev/null", os.O_RDONLY)
for number in map(int, numbers.split()):
    os.dup2(source, number)
    os.set_inheritable(number, True)
os.execve(program[0], program, dict(os.environ))
"""
#: What the container's environment, or the function's, could try on a shell.
HOSTILE = {
    "FROM_THE_CONTAINER": "1",
    "ENV": "/nowhere",
    "BASH_ENV": "/nowhere",
    "PATH": "/nowhere",
    "IFS": "/ev",
    "CDPATH": "/usr",
    "BASH_FUNC_exec%%": "() { echo hacked; }",
    "PYTHONPATH": "/nowhere",
}


@dataclass
class Outcome:
    code: int
    console: str
    log: str


class Gate:
    """A gate in a directory of its own, started with variables and descriptors that must not get through."""

    def __init__(self, directory: Path, shell: str) -> None:
        self.directory = directory
        self.shell = shell
        for name in ("assignment", "log"):
            os.mkfifo(directory / name)
        # As the worker holds it: for reading and writing, so that it neither blocks nor ends.
        self.log = os.open(directory / "log", os.O_RDWR | os.O_NONBLOCK)

    def close(self) -> None:
        os.close(self.log)

    def run(self, text: bytes, *leaked: int) -> Outcome:
        leak = [sys.executable, "-c", LEAK, " ".join(map(str, leaked))] if leaked else []
        process = subprocess.Popen(
            [*leak, self.shell, str(GATE), str(self.directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=HOSTILE,
        )
        self._tell(process, text)
        _, console = process.communicate(timeout=20)
        return Outcome(process.returncode, console.decode(), self._read_log())

    def assign(self, argv: list[str], env: dict[str, str] | None = None, cwd: str = "/", *leaked: int) -> Outcome:
        return self.run(assignment(ProcessSpec(argv=tuple(argv), env=env or {}, cwd=cwd)), *leaked)

    def _tell(self, process: "subprocess.Popen[bytes]", text: bytes) -> None:
        """Write once the gate reads; nothing when it ends before."""
        deadline = time.monotonic() + 20
        while process.poll() is None and time.monotonic() < deadline:
            try:
                descriptor = os.open(self.directory / "assignment", os.O_WRONLY | os.O_NONBLOCK)
            except OSError:
                time.sleep(0.001)
                continue
            os.set_blocking(descriptor, True)
            with os.fdopen(descriptor, "wb") as fifo:
                fifo.write(text)
            return

    def _read_log(self) -> str:
        try:
            return os.read(self.log, 1 << 20).decode()
        except BlockingIOError:
            return ""


#: The shell of Debian's images, and that of others.
@pytest.fixture(params=["/bin/dash", "/bin/bash"])
def gate(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Gate]:
    shell = tmp_path / "sh"
    # bash behaves as a POSIX shell when it is called so.
    shell.symlink_to(request.param)
    made = Gate(tmp_path, str(shell))
    yield made
    made.close()


def test_program_gets_exactly_the_assigned_environment(gate: Gate) -> None:
    outcome = gate.assign([ENV], {"_HANDLER": "a.b", "NAME": "värde\n=x", "EMPTY": "", "PATH": "/bin", "IFS": ":"})

    assert outcome == Outcome(0, "", "_HANDLER=a.b\nNAME=värde\n=x\nEMPTY=\nPATH=/bin\nIFS=:\n")


@pytest.mark.parametrize(
    "value",
    [
        "'", "''", "\\", "\\'", "'\"'\"'", "$(touch /tmp/x) `id` $HOME ${HOME}", "a\nb\r\n\n",
        "\n}\nrefuse x\n{\n", " ", "\t", "*", "~", "-i", "!", "#x", "&|;<>()", "\x01\x7f\x80\xff", "é日本🐑\u2028",
        "x" * 4096,
        "".join(map(chr, range(1, 0x250))),
    ],
    ids=lambda value: ascii(value)[:16],
)  # fmt: skip
def test_values_arrive_as_they_are(gate: Gate, value: str) -> None:
    shown = "import json, os; print(json.dumps(dict(os.environ)))"

    outcome = gate.assign(
        [sys.executable, "-I", "-S", "-c", shown], {"A": value, "-i": value, "a.b": value, "é": value}
    )

    assert outcome.code == 0, outcome
    # What the interpreter itself adds where there is no locale.
    seen = {name: text for name, text in json.loads(outcome.log).items() if name != "LC_CTYPE"}
    assert seen == {"A": value, "-i": value, "a.b": value, "é": value}


def test_program_gets_an_empty_environment_when_none_is_assigned(gate: Gate) -> None:
    assert gate.assign(["/bin/cat", "/proc/self/environ"]) == Outcome(0, "", "")


def test_program_gets_arguments_and_working_directory_as_assigned(gate: Gate, tmp_path: Path) -> None:
    outcome = gate.assign(["/bin/sh", "-c", 'pwd; printf "%s|" "$0" "$@"', "a b", "A=ü", "", "-x"], cwd=str(tmp_path))

    assert outcome.log == f"{tmp_path}\na b|A=ü||-x|"


def test_program_has_no_descriptors_but_its_three(gate: Gate) -> None:
    # Not 9: where none of the first ten is free, dash itself leaves this script, which all may read, open.
    outcome = gate.assign([sys.executable, "-I", "-S", "-c", OPEN_DESCRIPTORS], {}, "/", *range(3, 9))

    log = str(gate.directory / "log")
    assert json.loads(outcome.log) == {"0": "/dev/null", "1": log, "2": log}


def test_descriptor_that_a_shell_cannot_close_is_refused(gate: Gate) -> None:
    outcome = gate.assign([ENV], {}, "/", 200)

    assert outcome == Outcome(70, "gate: descriptor 200 is open, and a shell can't close it\n", "")


def test_program_has_default_signal_handling(gate: Gate) -> None:
    outcome = gate.assign(
        ["/bin/sh", "-c", "while read -r k v; do case $k in SigIgn:) echo $v;; esac; done </proc/$$/status"]
    )

    # Whoever started the tests may ignore signals too.
    ignored = int(outcome.log, 16)
    assert not ignored & (1 << signal.SIGPIPE - 1)
    assert not ignored & (1 << signal.SIGXFSZ - 1)


def test_output_and_errors_go_to_the_log_and_the_exit_status_is_the_programs(gate: Gate) -> None:
    outcome = gate.assign(["/bin/sh", "-c", "echo out; echo err >&2; exit 3"])

    assert outcome == Outcome(3, "", "out\nerr\n")


WHOLE = assignment(ProcessSpec(argv=("/bin/echo", "hi"), env={"KEY": "hunter2"}, cwd="/"))


@pytest.mark.parametrize("length", range(len(WHOLE) - 1))
def test_a_part_of_an_assignment_is_none(tmp_path: Path, length: int) -> None:
    gate = Gate(tmp_path, "/bin/sh")
    try:
        outcome = gate.run(WHOLE[:length])
    finally:
        gate.close()

    # All but the last newline is the whole of it.
    assert (outcome.code, outcome.log) == ((70, "") if length < len(WHOLE) - 1 else (0, "hi\n"))
    assert outcome.console.startswith("gate: the assignment ")
    assert outcome.console.count("\n") == 1


@pytest.mark.parametrize(
    "text", [b"", b"\n", b"hunter2 hunter2\n", b"KEY=hunter2", b"hunter2(", b"'hunter2", b"{ hunter2"]
)
def test_what_is_no_assignment_is_refused_without_a_word_of_it(gate: Gate, text: bytes) -> None:
    outcome = gate.run(text)

    assert (outcome.code, outcome.log) == (70, "")
    assert outcome.console.startswith("gate: the assignment ")
    assert outcome.console.count("\n") == 1
    assert "hunter2" not in outcome.console


def test_reason_that_the_worker_gives_is_told(gate: Gate) -> None:
    outcome = gate.assign([ENV], {"KEY": "hunter2\0"})

    assert outcome == Outcome(70, "gate: the value of KEY has a NUL character, or is no valid Unicode\n", "")


def test_environment_that_the_kernel_refuses_is_told_in_the_log(gate: Gate) -> None:
    outcome = gate.assign([ENV], {f"V{number}": "x" * 100_000 for number in range(30)})

    assert outcome.code in {70, 126}
    assert "Argument list too long" in outcome.log
    assert "xxx" not in outcome.log + outcome.console


def test_missing_program_and_missing_directory_are_told_in_the_log(gate: Gate) -> None:
    missing = gate.assign(["/no/such"])
    assert missing.code == 127
    assert "/no/such" in missing.log
    assert "No such file" in missing.log
    nowhere = gate.assign([ENV], {"KEY": "hunter2"}, "/no/such")
    assert nowhere.code == 70
    assert nowhere.log.endswith("gate: can't enter /no/such\n")
    assert "hunter2" not in nowhere.log


def test_missing_fifos_are_told(tmp_path: Path) -> None:
    result = subprocess.run(["/bin/sh", str(GATE), str(tmp_path)], capture_output=True, text=True, timeout=20)

    assert (result.returncode, result.stderr) == (70, f"gate: there is no FIFO {tmp_path}/assignment\n")
    assert not (tmp_path / "assignment").exists()
