"""Naming who has a port."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from deploy import port


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener


def test_the_listening_process_is_named_with_its_pid(listener: socket.socket) -> None:
    number = listener.getsockname()[1]

    assert not port.is_free(number)
    assert port.holder(number).endswith(f"(pid {os.getpid()})")


def test_a_port_that_nobody_has_is_free(listener: socket.socket) -> None:
    number = listener.getsockname()[1]
    listener.close()

    assert port.is_free(number)
    assert "may not see" in port.holder(number)
