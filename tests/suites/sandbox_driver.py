"""What every sandbox driver must do: subclass, and give the two fixtures."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from worker.sandbox.driver import (
    ExitStatus,
    ProcessSpec,
    Sandbox,
    SandboxDriver,
    SandboxGoneError,
    SandboxSpec,
    SandboxStartFailedError,
)

SETTLED_S = 10


class SandboxDriverSuite(ABC):
    """The contract of `worker.sandbox.driver.SandboxDriver`."""

    @abstractmethod
    def exits_with(self, code: int) -> ProcessSpec:
        """Return a process that ends with `code` at once."""

    @abstractmethod
    def runs_for_ever(self) -> ProcessSpec:
        """Return a process that ends only when it is killed."""

    @pytest.fixture
    @abstractmethod
    def driver(self) -> SandboxDriver:
        """Return a driver on which nothing runs."""
        raise NotImplementedError

    @pytest.fixture
    @abstractmethod
    def new_spec(self) -> Callable[[], SandboxSpec]:
        """Return what makes a spec of a new environment that can be started."""
        raise NotImplementedError

    @pytest.fixture
    def bad_spec(self, new_spec: Callable[[], SandboxSpec]) -> SandboxSpec:
        """Return a spec that can't be started."""
        raise NotImplementedError

    async def test_started_sandbox_waits_with_its_socket_and_log_in_place(
        self, driver: SandboxDriver, new_spec: Callable[[], SandboxSpec]
    ) -> None:
        spec = new_spec()
        sandbox = await driver.start(spec)

        assert sandbox.environment_id == spec.environment_id
        assert not sandbox.exited.done()
        assert is_listening(sandbox.runtime_api_listener)
        assert sandbox.listeners == ()
        assert stat.S_ISFIFO((sandbox.run_dir / "log").stat().st_mode)
        await end(driver, sandbox)

    async def test_further_listeners_are_returned_in_order_at_each_start(
        self, driver: SandboxDriver, new_spec: Callable[[], SandboxSpec]
    ) -> None:
        spec = replace(new_spec(), listeners=(("127.0.0.1", 9002), ("127.0.100.1", 9000)))
        sandbox = await driver.start(spec)

        assert [is_listening(each) for each in sandbox.listeners] == [True, True]
        again = await restarted(driver, sandbox)
        assert [is_listening(each) for each in again.listeners] == [True, True]
        await end(driver, again)

    async def test_released_process_tells_its_exit_code(
        self, driver: SandboxDriver, new_spec: Callable[[], SandboxSpec]
    ) -> None:
        sandbox = await driver.start(new_spec())
        log = open_log(sandbox)

        await driver.release(sandbox, self.exits_with(3))

        assert await settled(sandbox) == ExitStatus(code=3, oom_killed=False)
        os.close(log)
        await end(driver, sandbox)

    async def test_flush_of_what_waits_or_has_ended_comes_to_an_end(
        self, driver: SandboxDriver, new_spec: Callable[[], SandboxSpec]
    ) -> None:
        sandbox = await driver.start(new_spec())
        log = open_log(sandbox)

        async with asyncio.timeout(SETTLED_S):
            await driver.flush_log(sandbox)
            await driver.release(sandbox, self.exits_with(3))
            await settled(sandbox)
            await driver.flush_log(sandbox)

        os.close(log)
        await end(driver, sandbox)

    async def test_gate_opens_once(self, driver: SandboxDriver, new_spec: Callable[[], SandboxSpec]) -> None:
        sandbox = await driver.start(new_spec())
        log = open_log(sandbox)
        await driver.release(sandbox, self.runs_for_ever())

        with pytest.raises(SandboxGoneError):
            await driver.release(sandbox, self.runs_for_ever())

        os.close(log)
        await end(driver, sandbox)

    async def test_killed_sandbox_exits_with_137(
        self, driver: SandboxDriver, new_spec: Callable[[], SandboxSpec]
    ) -> None:
        sandbox = await driver.start(new_spec())
        log = open_log(sandbox)
        await driver.release(sandbox, self.runs_for_ever())

        await driver.kill(sandbox)
        await driver.kill(sandbox)

        assert await settled(sandbox) == ExitStatus(code=137)
        await driver.kill(sandbox)
        os.close(log)
        await end(driver, sandbox)

    async def test_release_of_a_killed_sandbox_is_refused(
        self, driver: SandboxDriver, new_spec: Callable[[], SandboxSpec]
    ) -> None:
        sandbox = await driver.start(new_spec())
        await driver.kill(sandbox)
        await settled(sandbox)

        with pytest.raises(SandboxGoneError):
            await driver.release(sandbox, self.runs_for_ever())
        await end(driver, sandbox)

    async def test_destroy_ends_the_sandbox_and_removes_its_directory(
        self, driver: SandboxDriver, new_spec: Callable[[], SandboxSpec]
    ) -> None:
        sandbox = await driver.start(new_spec())

        await end(driver, sandbox)

        assert sandbox.exited.result().code == 137
        assert not sandbox.run_dir.exists()

    async def test_destroyed_sandbox_is_a_no_op_for_everything_that_ends(
        self, driver: SandboxDriver, new_spec: Callable[[], SandboxSpec]
    ) -> None:
        sandbox = await driver.start(new_spec())
        await end(driver, sandbox)

        await driver.destroy(sandbox)
        await driver.kill(sandbox)
        await driver.flush_log(sandbox)
        driver.limit_cpu(sandbox)

        assert driver.memory_peak_mb(sandbox) == 0
        with pytest.raises(SandboxGoneError):
            await driver.release(sandbox, self.runs_for_ever())
        with pytest.raises(SandboxStartFailedError):
            await driver.restart(sandbox)

    async def test_unknown_sandbox_is_no_error_to_destroy(self, driver: SandboxDriver, tmp_path: Path) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        stranger = Sandbox(
            id=uuid.uuid4().hex,
            environment_id=uuid.uuid4().hex,
            runtime_api_listener=listener,
            run_dir=tmp_path,
            exited=asyncio.get_running_loop().create_future(),
        )

        await driver.kill(stranger)
        await driver.destroy(stranger)

        assert tmp_path.exists()
        listener.close()

    async def test_concurrent_destroys_are_one(
        self, driver: SandboxDriver, new_spec: Callable[[], SandboxSpec]
    ) -> None:
        sandbox = await driver.start(new_spec())
        sandbox.runtime_api_listener.close()

        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(driver.destroy(sandbox))

        assert sandbox.exited.done()

    async def test_restarted_sandbox_has_a_new_handle_and_waits_at_its_gate(
        self, driver: SandboxDriver, new_spec: Callable[[], SandboxSpec]
    ) -> None:
        old = await driver.start(new_spec())
        old.runtime_api_listener.close()
        await driver.kill(old)
        await settled(old)

        new = await driver.restart(old)

        assert new is not old
        assert new.environment_id == old.environment_id
        assert not new.exited.done()
        with pytest.raises(SandboxGoneError):
            await driver.release(old, self.exits_with(0))
        log = open_log(new)
        await driver.release(new, self.exits_with(4))
        assert (await settled(new)).code == 4
        os.close(log)
        await end(driver, new)

    async def test_running_sandbox_is_not_restarted(
        self, driver: SandboxDriver, new_spec: Callable[[], SandboxSpec]
    ) -> None:
        sandbox = await driver.start(new_spec())

        with pytest.raises(ValueError, match="still runs"):
            await driver.restart(sandbox)
        await end(driver, sandbox)

    async def test_cpu_limit_may_be_set_again_and_peak_is_known(
        self, driver: SandboxDriver, new_spec: Callable[[], SandboxSpec]
    ) -> None:
        sandbox = await driver.start(new_spec())

        driver.limit_cpu(sandbox)
        driver.limit_cpu(sandbox)

        assert driver.memory_peak_mb(sandbox) > 0
        await driver.kill(sandbox)
        await settled(sandbox)
        assert driver.memory_peak_mb(sandbox) > 0
        await end(driver, sandbox)

    async def test_failed_start_names_the_sandbox(self, driver: SandboxDriver, bad_spec: SandboxSpec) -> None:
        with pytest.raises(SandboxStartFailedError, match=bad_spec.environment_id):
            await driver.start(bad_spec)

    async def test_sweep_leaves_the_living_alone(
        self, driver: SandboxDriver, new_spec: Callable[[], SandboxSpec]
    ) -> None:
        sandbox = await driver.start(new_spec())

        assert await driver.sweep() == 0

        assert not sandbox.exited.done()
        await end(driver, sandbox)


def open_log(sandbox: Sandbox) -> int:
    """Open the log for reading, as the worker does: a writer would block without a reader."""
    return os.open(sandbox.run_dir / "log", os.O_RDWR | os.O_NONBLOCK)


def is_listening(listener: socket.socket) -> bool:
    return not listener.getblocking() and listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1


async def settled(sandbox: Sandbox) -> ExitStatus:
    async with asyncio.timeout(SETTLED_S):
        return await asyncio.shield(sandbox.exited)


async def restarted(driver: SandboxDriver, sandbox: Sandbox) -> Sandbox:
    """Kill a sandbox and start it again."""
    sandbox.close_listeners()
    await driver.kill(sandbox)
    await settled(sandbox)
    return await driver.restart(sandbox)


async def end(driver: SandboxDriver, sandbox: Sandbox) -> None:
    sandbox.close_listeners()
    await driver.destroy(sandbox)
