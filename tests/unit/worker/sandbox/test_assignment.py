import shlex

import pytest

from worker.sandbox.assignment import assignment
from worker.sandbox.driver import ProcessSpec


def test_assignment_is_one_command_in_braces_with_every_word_quoted() -> None:
    process = ProcessSpec(argv=("/bin/x", "it's"), env={"_HANDLER": "a.b", "A": "ü"}, cwd="/var/task")

    text = assignment(process).decode()

    assert text == "{\nbecome '/var/task' '_HANDLER=a.b' 'A=ü' '/bin/x' 'it'\"'\"'s'\n}\n"
    assert shlex.split(text) == ["{", "become", "/var/task", "_HANDLER=a.b", "A=ü", "/bin/x", "it's", "}"]


@pytest.mark.parametrize(
    ("process", "reason"),
    [
        (ProcessSpec(argv=(), env={}), "the program must be"),
        (ProcessSpec(argv=("x",), env={}), "the program must be"),
        (ProcessSpec(argv=("/a=b",), env={}), "the program must be"),
        (ProcessSpec(argv=("/x", "a\0b"), env={}), "the program, its arguments"),
        (ProcessSpec(argv=("/x", "\ud800"), env={}), "the program, its arguments"),
        (ProcessSpec(argv=("/x",), env={}, cwd="tmp"), "the working directory must be"),
        (ProcessSpec(argv=("/x",), env={}, cwd=""), "the working directory must be"),
        (ProcessSpec(argv=("/x",), env={"": "x"}), "can't be the name of a variable"),
        (ProcessSpec(argv=("/x",), env={"A=B": "x"}), "'A=B' can't be the name"),
        (ProcessSpec(argv=("/x",), env={"A\0": "x"}), "can't be the name"),
        (ProcessSpec(argv=("/x",), env={"A": "hunter2\0"}), "the value of A has a NUL"),
        (ProcessSpec(argv=("/x",), env={"A": "hunter2\udfff"}), "the value of A has a NUL"),
    ],
)
def test_what_no_kernel_can_start_makes_the_gate_refuse(process: ProcessSpec, reason: str) -> None:
    text = assignment(process).decode()

    brace, command, reason_given, end = shlex.split(text)
    assert (brace, command, end) == ("{", "refuse", "}")
    assert reason in reason_given
    assert "hunter2" not in text
