"""Taking connections when there is nothing to take them with."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Any

import pytest

from tests.unit.worker.waiting import wait_until
from worker.endpoints import accepting
from worker.endpoints.accepting import Acceptor
from worker.sandbox import namespace
from worker.time_share import BURST_S, SHARE


class Listener(socket.socket):
    """Has no descriptor for the first connections."""

    failures = 0
    accepts = 0

    def accept(self) -> Any:
        self.accepts += 1
        if self.failures > 0:
            self.failures -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


async def test_without_free_descriptors_connections_wait_and_the_worker_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accepting, "_REST_S", 0.05)
    listener = Listener()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    listener.setblocking(False)
    listener.failures = 3
    taken: list[asyncio.Protocol] = []

    def make(_: object) -> asyncio.Protocol:
        taken.append(asyncio.Protocol())
        return taken[-1]

    acceptor = Acceptor(asyncio.get_running_loop(), [(listener, make)], limit=1)
    _, writer = await asyncio.open_connection(*listener.getsockname())

    await wait_until(lambda: taken, "the connection is taken")

    assert listener.accepts == 4
    acceptor.close()
    writer.close()
    await asyncio.gather(writer.wait_closed(), return_exceptions=True)


async def test_whoever_connects_again_and_again_gets_a_share_of_the_worker_s_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(accepting, "_CONNECTION_COST_S", 0.01)
    loop = asyncio.get_running_loop()
    listener = namespace.open_listener("127.0.0.1", 0)
    taken: list[asyncio.Protocol] = []

    def make(_: object) -> asyncio.Protocol:
        taken.append(asyncio.Protocol())
        return taken[-1]

    began_s = loop.time()
    acceptor = Acceptor(loop, [(listener, make)], limit=64)
    clients = [socket.create_connection(listener.getsockname()) for _ in range(20)]

    await wait_until(lambda: len(taken) == 20, "all connections are taken in the end")
    took_s = loop.time() - began_s
    acceptor.close()
    for client in clients:
        client.close()

    assert took_s > (19 * 0.01 - BURST_S - 0.05) / SHARE
