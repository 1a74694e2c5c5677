"""Isolation as seen from inside, by the process that user code would be."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from tests.integration.sandbox.bench import Bench, finish, run, say
from tests.public_host import PublicHost
from worker.sandbox import network
from worker.sandbox.cgroups import find_cgroups
from worker.sandbox.dns import server_failure
from worker.sandbox.fast_paths import FastPaths

pytestmark = pytest.mark.docker

#: Prints for each "address port" of argv-like list how a connection ends.
CONNECT = """
import json, socket
def attempt(address, port):
    try:
        socket.create_connection((address, port), timeout=1.5).close()
        return "connected"
    except OSError as error:
        return type(error).__name__ + " " + str(error.errno)
print(json.dumps({{f"{{a}}:{{p}}": attempt(a, p) for a, p in {targets!r}}}))
"""


async def test_process_has_no_privileges(bench: Bench) -> None:
    code = """
import json, os, socket
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
def refused(make):
    try:
        make().close()
        return False
    except PermissionError:
        return True
print(json.dumps({
    "caps": [int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")],
    "no_new_privs": status["NoNewPrivs"], "seccomp": status["Seccomp"],
    "ids": [os.getresuid(), os.getresgid(), os.getgroups()],
    "raw": refused(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)),
    "packet": refused(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 3)),
    "fds": sorted(int(fd) for fd in os.listdir("/proc/self/fd"))[:3], "pid": os.getpid(),
    "environment": dict(os.environ),
}))
"""
    status, said = await say(bench.driver(), bench.spec(), code)

    assert status.code == 0, said
    seen = json.loads(said)
    assert seen["caps"] == [0] * 5
    assert seen["no_new_privs"] == "1"
    assert seen["seccomp"] == "2"
    assert seen["ids"] == [[993] * 3, [990] * 3, [990]] or seen["ids"] == [[993] * 3, [990] * 3, []]
    assert seen["raw"]
    assert seen["packet"]
    assert seen["pid"] > 1, "process 1 is the engine's init"
    # A foreign image brings its own; what the engine sets by itself (HOSTNAME) comes with none.
    assert set(seen["environment"]) <= {"LANG", "LC_CTYPE", *(("TZ", "PATH", "HOME") if bench.is_foreign else ())}


async def test_everything_but_tmp_and_shared_memory_is_read_only(bench: Bench) -> None:
    code = """
import errno, json, os
def write(path):
    try:
        open(path, "w").write("x")
        return "written"
    except OSError as error:
        return errno.errorcode[error.errno]
print(json.dumps({path: write(path) for path in (
    "/x", "/var/task/x", "/var/task/app.py", "/run/lambdock/x", "/etc/hosts", "/etc/resolv.conf",
    "/var/runtime/gate.sh", "/proc/sys/net/ipv4/ip_forward", "/tmp/x")}))
"""
    _, said = await say(bench.driver(), bench.spec(), code)

    seen = json.loads(said)
    assert seen.pop("/tmp/x") == "written"
    assert set(seen.values()) <= {"EROFS", "EACCES"}, seen


async def test_tmp_is_full_at_its_size_and_is_no_memory(bench: Bench) -> None:
    code = """
import os
written, block = 0, bytes(1 << 20)
try:
    with open("/tmp/big", "wb", buffering=0) as big:
        while written < 700:
            written += big.write(block) >> 20
except OSError as error:
    print(error.errno, written)
"""
    status, said = await say(bench.driver(), bench.spec(memory_mb=128), code)

    assert status.code == 0, said
    error_number, written = map(int, said.split())
    assert error_number == 28
    assert 512 <= written <= 540
    assert not status.oom_killed


async def test_memory_limit_kills_and_is_told(bench: Bench) -> None:
    status, _ = await say(bench.driver(), bench.spec(memory_mb=128), "held = bytearray(b'x') * (200 << 20)")

    assert status.code == 137
    assert status.oom_killed


async def test_memory_limit_is_told_without_cgroup_files(bench: Bench) -> None:
    driver = bench.driver(fast_paths=FastPaths(has_cgroups=False, has_loop_disks=True))

    status, _ = await say(driver, bench.spec(memory_mb=128), "held = bytearray(b'x') * (200 << 20)")

    assert status.code == 137
    assert status.oom_killed


async def test_processes_are_bounded_and_all_die_at_a_kill(bench: Bench) -> None:
    driver = bench.driver()
    code = """
import os, signal
count = 0
try:
    while count < 2000:
        if os.fork() == 0:
            signal.pause()
        count += 1
except OSError as error:
    print(error.errno, count, flush=True)
while True: pass
"""
    running = await run(driver, await driver.start(bench.spec(memory_mb=1024)), code)
    error_number, count = map(int, (await running.line(60)).split())
    pids = processes(bench.user_container(running.sandbox))

    await driver.kill(running.sandbox)

    assert error_number == 11
    assert 900 < count < 1024
    assert len(pids) > 900
    status, _ = await running.ended(20)
    assert status.code == 137
    await finish(running)


async def test_cpu_is_full_at_first_and_then_its_share_as_the_engine_has_it(bench: Bench) -> None:
    driver = bench.driver()
    spec = bench.spec(memory_mb=256)
    sandbox = await driver.start(spec)
    quota = cgroup_file("cpu", sandbox.id, "cpu.cfs_quota_us")
    at_start = quota.read_text().strip()

    driver.limit_cpu(sandbox)

    assert at_start == "-1"
    assert quota.read_text().strip() == str(256 * 100_000 // 1769)
    host = bench.engine.client.api.inspect_container(sandbox.id)["HostConfig"]
    assert (host["CpuPeriod"], host["CpuQuota"]) == (100_000, 256 * 100_000 // 1769)
    assert host["Memory"] == host["MemorySwap"] == 256 << 20
    sandbox.runtime_api_listener.close()
    await driver.destroy(sandbox)


async def test_host_addresses_are_closed(bench: Bench) -> None:
    with socket.create_server(("0.0.0.0", 0), backlog=64) as listener:
        port = listener.getsockname()[1]
        driver = bench.driver()
        sandbox = await driver.start(bench.spec())
        addresses = [str(address) for address in network.read_host_networks().addresses]
        for address in addresses:
            socket.create_connection((address, port), timeout=1).close()
        targets = [(address, port) for address in (*addresses, "169.254.169.254", "127.0.0.1")]
        targets += [(address, 6379) for address in addresses]

        running = await run(driver, sandbox, CONNECT.format(targets=targets))
        status, said = await running.ended()
        await finish(running)

    assert len(addresses) >= 3
    assert status.code == 0, said
    assert not [target for target, end in json.loads(said).items() if end == "connected"]


async def test_another_sandbox_is_closed(bench: Bench) -> None:
    driver = bench.driver()
    serve = "import socket; s = socket.create_server(('0.0.0.0', 8080)); print('up', flush=True); s.accept()"
    other = await run(driver, await driver.start(bench.spec()), serve)
    assert await other.line() == "up\n"
    found = bench.engine.client.api.inspect_container(other.sandbox.id)
    address = found["NetworkSettings"]["Networks"][f"lambdock-{bench.cell}"]["IPAddress"]

    _, said = await say(driver, bench.spec(), CONNECT.format(targets=[(address, 8080), (address, 9001), (address, 53)]))

    assert set(json.loads(said).values()) <= {"OSError 113", "OSError 101"}
    await finish(other)


async def test_runtime_api_socket_is_this_sandbox_alone(bench: Bench) -> None:
    driver = bench.driver()
    code = (
        "import socket; s = socket.create_connection(('127.0.0.1', 9001)); s.send(b'here'); print(s.recv(9).decode())"
    )
    running = await run(driver, await driver.start(bench.spec()), code)

    connection, _ = await asyncio.get_running_loop().sock_accept(running.sandbox.runtime_api_listener)
    received = await asyncio.get_running_loop().sock_recv(connection, 9)
    await asyncio.get_running_loop().sock_sendall(connection, b"there")
    status, said = await running.ended()

    assert (received, said, status.code) == (b"here", "there\n", 0)
    connection.close()
    await finish(running)


@pytest.fixture
def public_host() -> Iterator[PublicHost]:
    with PublicHost() as host:
        yield host


async def test_internet_is_open_and_networks_of_the_host_are_not(bench: Bench, public_host: PublicHost) -> None:
    neighbour = (public_host.peer, 8080)
    socket.create_connection(neighbour, timeout=2).close()

    _, said = await say(bench.driver(), bench.spec(), CONNECT.format(targets=[(public_host.address, 8080), neighbour]))

    assert json.loads(said) == {f"{public_host.address}:8080": "connected", f"{neighbour[0]}:8080": "OSError 113"}


async def test_allowed_network_is_open(bench: Bench, public_host: PublicHost) -> None:
    neighbour = (public_host.peer, 8080)
    driver = bench.driver(allow_networks=(IPv4Network(IPv4Address(public_host.peer)),))

    _, said = await say(driver, bench.spec(), CONNECT.format(targets=[neighbour, (public_host.host, 8080)]))

    ends = json.loads(said)
    assert ends[f"{neighbour[0]}:8080"] == "connected"
    assert ends[f"{public_host.host}:8080"] != "connected"


async def test_there_is_no_ipv6(bench: Bench) -> None:
    _, said = await say(bench.driver(), bench.spec(), "print(open('/proc/net/if_inet6').read().strip() or 'none')")

    assert said == "none\n"


class Answering(asyncio.DatagramProtocol):
    """A resolver that has one name: 93.184.216.34 for anything of type A, and nothing else."""

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        end = data.index(b"\0", 12) + 5
        question = data[12:end]
        if question[-4:-2] != b"\0\1":
            self.transport.sendto(server_failure(data), addr)
            return
        answer = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + bytes((93, 184, 216, 34))
        self.transport.sendto(data[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + question + answer, addr)


async def test_names_resolve_through_the_worker(bench: Bench) -> None:
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Answering, local_addr=("127.0.0.1", 0))
    port = transport.get_extra_info("sockname")[1]
    driver = bench.driver(resolvers=(("127.0.0.1", port),))

    _, said = await say(driver, bench.spec(), "import socket; print(socket.gethostbyname('name.example'))")
    _, own = await say(driver, bench.spec(), "import socket; print(socket.gethostbyname(socket.gethostname()))")

    assert said == "93.184.216.34\n"
    assert own == "127.0.0.1\n"
    transport.close()


async def test_layers_lie_in_opt_and_can_t_be_written(bench: Bench) -> None:
    layers = bench.state_dir / "layers"
    (layers / "bin").mkdir(parents=True)
    (layers / "bin/tool").write_text("#!/bin/sh\necho from the layer\n")
    (layers / "bin/tool").chmod(0o755)
    code = """
import os, subprocess
print(subprocess.run(["/opt/bin/tool"], capture_output=True, text=True).stdout, end="")
for attempt in (lambda: open("/opt/new", "w"), lambda: os.chmod("/opt/bin/tool", 0o777), lambda: os.unlink("/opt/bin")):
    try:
        attempt()
    except OSError as error:
        print(error.errno)
"""
    _, said = await say(bench.driver(), replace(bench.spec(), layers_dir=layers), code)

    assert said == "from the layer\n30\n30\n30\n"


async def test_own_names_lead_to_the_worker_s_listeners(bench: Bench) -> None:
    driver = bench.driver(resolvers=())
    spec = replace(bench.spec(), names={"s3.local": "127.0.100.1"}, listeners=(("127.0.100.1", 9000),))
    code = """
import socket
with socket.create_connection(("bucket.s3.local", 9000), timeout=5) as s:
    print(s.recv(9).decode(), s.getpeername())
"""
    running = await run(driver, await driver.start(spec), code)

    connection, _ = await asyncio.get_running_loop().sock_accept(running.sandbox.listeners[0])
    await asyncio.get_running_loop().sock_sendall(connection, b"here")
    connection.close()
    _, said = await running.ended()

    assert said == "here ('127.0.100.1', 9000)\n"
    await finish(running)


def cgroup_file(controller: str, container_id: str, name: str) -> Path:
    found = find_cgroups(Path("/sys/fs/cgroup"), container_id, "")
    return {"cpu": found.cpu, "freezer": found.procs}[controller] / name


def processes(container_id: str) -> list[int]:
    return [int(line) for line in cgroup_file("freezer", container_id, "cgroup.procs").read_text().split()]
