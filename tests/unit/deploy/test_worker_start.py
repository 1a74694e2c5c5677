"""Names and folders of workers in containers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.images import worker_start
from deploy.installation import ROOT

HOLD = """
import pathlib, sys
from deploy.images.worker_start import name_of, take_folder
folder = take_folder(pathlib.Path(sys.argv[1]))
print(folder.name, name_of(folder), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Callable[[], tuple[str, str, subprocess.Popen[str]]]]:
    """Starts a process that holds a folder; returns folder, name and process."""
    started = []

    def start() -> tuple[str, str, subprocess.Popen[str]]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(tmp_path)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        folder, name = process.stdout.readline().split()
        return folder, name, process

    yield start
    for process in started:
        process.kill()
        process.communicate()


Hold = Callable[[], tuple[str, str, "subprocess.Popen[str]"]]


def test_two_workers_share_neither_folder_nor_name(hold: Hold) -> None:
    first, second = hold(), hold()

    assert (first[0], second[0]) == ("worker-1", "worker-2")
    assert first[1] != second[1]


def test_the_successor_of_a_killed_worker_has_its_name(hold: Hold) -> None:
    folder, name, process = hold()
    hold()
    process.kill()
    process.wait()

    assert hold()[:2] == (folder, name)


def test_the_same_folder_on_two_hosts_gives_two_names(tmp_path: Path) -> None:
    names = set()
    for host in ("one", "two"):
        folder = worker_start.take_folder(tmp_path / host)
        assert folder is not None
        names.add(worker_start.name_of(folder))

    assert len(names) == 2
