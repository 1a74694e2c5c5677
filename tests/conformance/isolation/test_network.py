"""What a function can't send anything to, whatever it tries."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.isolation.attacker import Attacker, address_of
from tests.platform_under_test import Platform
from tests.public_host import PublicHost
from worker.sandbox.network import read_host_networks

#: How each connection ends: plainly, and from a socket bound to the interface, which passes by routes.
CONNECT = """
import socket, threading
SO_BINDTODEVICE = 25
result = {}
def attempt(address, port, bound):
    with socket.socket() as s:
        s.settimeout(1)
        try:
            if bound:
                s.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, b"eth0")
            s.connect((address, port))
            end = "connected"
        except ConnectionRefusedError:
            end = "refused by the host"
        except OSError as error:
            end = "closed"
    result[f"{address}:{port}{' bound' if bound else ''}"] = end
threads = [threading.Thread(target=attempt, args=(*target, bound)) for target in event["targets"] for bound in (0, 1)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""
#: One datagram each way round the routes.
SEND = """
import socket, struct
eth0 = socket.if_nametoindex("eth0")
ways = {
    "plain": lambda s: None,
    "bound": lambda s: s.setsockopt(socket.SOL_SOCKET, 25, b"eth0"),
    "unicast interface": lambda s: s.setsockopt(socket.IPPROTO_IP, 50, struct.pack("!I", eth0)),
    "multicast interface": lambda s: s.setsockopt(
        socket.IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("4s4si", bytes(4), bytes(4), eth0)),
}
for address in event["addresses"]:
    for name, prepare in ways.items():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            try:
                prepare(s)
                s.sendto(f"{address} {name}".encode(), (address, event["port"]))
            except OSError:
                pass
result = True
"""
SERVE = """
import socket, threading
def serve():
    while True:
        kept["server"].accept()[0].close()
if "server" not in kept:
    kept["server"] = socket.create_server(("0.0.0.0", 8080))
    kept["datagrams"] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    kept["datagrams"].bind(("0.0.0.0", 8080))
    kept["datagrams"].setblocking(False)
    threading.Thread(target=serve, daemon=True).start()
"""


def all_addresses() -> list[str]:
    return [str(address) for address in read_host_networks().addresses]


def listening_ports(pid: int) -> set[int]:
    """Return the TCP ports that one process listens on."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(descriptor)
        except OSError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {int(row[1].split(":")[1], 16) for row in rows if row[3] == "0A" and row[9] in inodes}


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("0.0.0.0", 0), backlog=256) as made:
        yield made


def network_of(attacker: Attacker) -> dict[str, Any]:
    attacker.see("result = 1")
    (network,) = attacker.container()["NetworkSettings"]["Networks"].values()
    return dict(network)


def test_no_host_address_is_reached_by_tcp(attacker: Attacker, listener: socket.socket) -> None:
    network = network_of(attacker)
    port = listener.getsockname()[1]
    addresses = all_addresses()
    assert network["Gateway"] in addresses
    for address in addresses:
        socket.create_connection((address, port), timeout=2).close()

    ends = attacker.see(CONNECT, targets=[(address, port) for address in addresses])

    assert set(ends.values()) == {"closed"}, ends


def test_the_control_plane_is_not_reached_on_any_host_address(platform: Platform, attacker: Attacker) -> None:
    network_of(attacker)
    ports = {port for part in ("controller", "redis", "worker") for port in listening_ports(platform.part_pid(part))}
    assert platform.port in ports
    assert len(ports) >= 2, "the API's port and the transfer channel's"
    targets = [(address, port) for address in (*all_addresses(), "127.0.0.1") for port in {*ports, 6379, 2375, 2376}]

    ends = attacker.see(CONNECT, targets=targets)

    # Its own loopback answers by itself; nothing else may answer at all.
    assert {end for target, end in ends.items() if not target.startswith("127.")} == {"closed"}, ends
    assert "connected" not in ends.values()


def test_metadata_and_link_local_addresses_are_not_reached(attacker: Attacker) -> None:
    """The host plays the metadata service, which then answers everybody else."""
    targets = [("169.254.169.254", 80), ("169.254.170.2", 80), ("169.254.1.1", 80)]
    with ExitStack() as stack:
        public = stack.enter_context(PublicHost())
        public.also("169.254.169.254")
        socket.create_connection(("169.254.169.254", 8080), timeout=2).close()
        ends = attacker.see(CONNECT, targets=[*targets, ("169.254.169.254", 8080)])

    assert set(ends.values()) == {"closed"}, ends


def test_the_internet_is_reached_and_the_machines_beside_the_host_are_not(platform: Platform) -> None:
    with PublicHost() as public:
        # Started afterwards: what the host is connected to is read at the start of an environment.
        ends = Attacker(platform).see(CONNECT, targets=[(public.address, 8080), (public.peer, 8080)])

    assert ends[f"{public.address}:8080"] == "connected"
    assert ends[f"{public.peer}:8080"] == "closed"
    assert ends[f"{public.peer}:8080 bound"] == "closed"


def test_no_datagram_reaches_the_host_or_another_function(attacker: Attacker, victim: Attacker) -> None:
    network = network_of(attacker)
    victim.see(SERVE)
    subnet = ipaddress.ip_interface(f"{network['IPAddress']}/{network['IPPrefixLen']}").network
    addresses = [*all_addresses(), str(subnet.broadcast_address), "255.255.255.255", "224.0.0.1", "224.0.0.251"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as host:
        host.bind(("0.0.0.0", 0))
        host.settimeout(1)
        port = host.getsockname()[1]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as proof:
            proof.sendto(b"proof", (network["Gateway"], port))
        assert host.recv(99) == b"proof"

        attacker.see(SEND, addresses=addresses, port=port)
        attacker.see(SEND, addresses=[*addresses, address_of(victim.container())], port=8080)

        with pytest.raises(TimeoutError):
            raise AssertionError(host.recv(99))
    received = victim.see("""
try:
    result = kept["datagrams"].recv(99).decode()
except BlockingIOError:
    result = None
""")
    assert received is None


def test_another_function_is_not_reached(attacker: Attacker, victim: Attacker) -> None:
    network_of(attacker)
    victim.see(SERVE)
    address = address_of(victim.container())
    assert victim.see(CONNECT, targets=[(address, 8080)])[f"{address}:8080"] == "connected"

    ends = attacker.see(CONNECT, targets=[(address, port) for port in (8080, 9001, 53)])

    assert set(ends.values()) == {"closed"}, ends


def test_raw_and_packet_sockets_are_refused_and_no_route_can_be_set(attacker: Attacker) -> None:
    ends = attacker.see("""
import ctypes, fcntl, os, socket, struct
def end(make):
    try:
        return repr(make())
    except OSError as error:
        return os.strerror(error.errno)
def change_route():
    # RTM_DELROUTE of the default route.
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as s:
        s.bind((0, 0))
        s.send(struct.pack("=IHHII8BI", 28, 25, 5, 1, 0, 2, 0, 0, 0, 254, 0, 0, 1, 0))
        number = -struct.unpack_from("=i", s.recv(4096), 16)[0]
        raise OSError(number, "")
def down():
    with socket.socket() as s:
        fcntl.ioctl(s, 0x8914, struct.pack("16sH14x", b"eth0", 0))
result = [
    end(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)),
    end(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)),
    end(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 3)),
    end(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 3)),
    end(change_route), end(down),
]
""")

    assert ends == ["Operation not permitted"] * 6


def test_there_is_one_address_family(attacker: Attacker) -> None:
    assert attacker.see("result = open('/proc/net/if_inet6').read()") == ""


def test_unix_sockets_of_the_host_are_out_of_reach(platform: Platform, attacker: Attacker) -> None:
    paths = [line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines() if "redis.sock" in line]
    assert paths
    with socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind("\0lambdock-isolation-test")
        abstract.listen()
        ends = attacker.see(
            """
import os, socket
result = {}
for path in event["paths"]:
    with socket.socket(socket.AF_UNIX) as s:
        try:
            s.connect(path)
            result[path] = "connected"
        except OSError as error:
            result[path] = os.strerror(error.errno)
result["listed"] = open("/proc/net/unix").read()
""",
            paths=[*paths, "/var/run/docker.sock", "/run/docker.sock", "\0lambdock-isolation-test"],
        )

    listed = ends.pop("listed")
    assert not [name for name in ("redis", "docker", "lambdock") if name in listed]
    assert set(ends.values()) <= {"No such file or directory", "Connection refused"}, ends


def test_names_of_the_host_are_not_told(attacker: Attacker) -> None:
    files = attacker.see("result = [open('/etc/' + name).read() for name in ('hosts', 'resolv.conf', 'hostname')]")

    assert files == [
        "127.0.0.1 localhost sandbox\n",
        "nameserver 127.0.0.1\noptions timeout:5 attempts:2\n",
        "sandbox\n",
    ]


def test_a_destroyed_function_leaves_no_way_in(platform: Platform) -> None:
    gone = Attacker(platform)
    link = int(gone.see("result = open('/sys/class/net/eth0/iflink').read()"))
    assert link in [index for index, _ in socket.if_nameindex()]

    platform.client().delete_function(FunctionName=gone.name)

    platform.wait_until(
        lambda: gone.name not in [item["Labels"]["lambdock.function"] for item in platform.containers()],
        "the container of the deleted function is gone",
    )
    assert link not in [index for index, _ in socket.if_nameindex()]
