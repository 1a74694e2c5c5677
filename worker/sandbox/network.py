"""Which networks a sandbox reaches: filter rules and routes of its namespace, set before user code runs.

User code has no NET_ADMIN, so what is set here stays. The rules are what holds. The routes say the same, so that a
program that asks for a closed address is told at once; alone they would hold nobody: a socket that is bound to the
interface (which needs no capability) sends to unreachable addresses as if they were on the link, and broadcasts and
multicasts, which the host hears, pass by the routes altogether. The bridge (no traffic between its members) and the
dropped raw sockets are the second line.
"""

from __future__ import annotations

import ipaddress
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

#: Never the internet. The documentation ranges are left out but for the hosts' own networks (see `HostNetworks`).
CLOSED = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
#: Heard by the host and its neighbours, whatever else is open.
_TO_MANY = (IPv4Network("224.0.0.0/4"), IPv4Network("255.255.255.255/32"))
_LOOPBACK = IPv4Network("127.0.0.0/8")
_TIMEOUT_S = 10
#: Whichever of the kernel's two interfaces the host has; the distribution's own choice first.
_FILTER_TOOLS = ("iptables-restore", "iptables-legacy-restore", "iptables-nft-restore")
_PREFIX = re.compile(r"[|+]--\s+(\d+\.\d+\.\d+\.\d+)")
_LEAF = re.compile(r"/(\d+) (host LOCAL|link UNICAST)")


class NetworkSetupError(Exception):
    """A sandbox's network could not be closed in; `str()` carries the tool's own words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostNetworks:
    """What the engine's host is, and is directly connected to."""

    addresses: tuple[IPv4Address, ...]
    #: Neighbours on these are the operator's machines, even where the addresses are public ones.
    connected: tuple[IPv4Network, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxLink:
    """A sandbox's place on the functions' bridge."""

    gateway: IPv4Address
    subnet: IPv4Network
    interface: str = "eth0"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPolicy:
    """What the operator decides about the networks of functions."""

    #: Reachable although private.
    allowed: tuple[IPv4Network, ...] = ()
    #: Closed although public (a Redis with a public address).
    denied: tuple[IPv4Network, ...] = ()


DEFAULT_POLICY = NetworkPolicy()


def parse_fib_trie(text: str) -> HostNetworks:
    """Read the kernel's `/proc/<pid>/net/fib_trie`. Loopback is left out: a sandbox has its own."""
    addresses: set[IPv4Address] = set()
    connected: set[IPv4Network] = set()
    prefix = ""
    for line in text.splitlines():
        if found := _PREFIX.search(line):
            prefix = found[1]
        elif (leaf := _LEAF.search(line)) and prefix:
            network = IPv4Network(f"{prefix}/{leaf[1]}", strict=False)
            if network.subnet_of(_LOOPBACK):
                continue
            if leaf[2] == "host LOCAL":
                # A local range wider than one address (AnyIP) is the host's as a whole.
                addresses.add(network.network_address) if network.prefixlen == 32 else connected.add(network)
            elif network.prefixlen > 0:
                connected.add(network)
    return HostNetworks(addresses=tuple(sorted(addresses)), connected=tuple(sorted(connected)))


def read_host_networks() -> HostNetworks:
    """Return what the host has now: the first process's network, which is the engine's wherever `pid: host` holds.

    Takes well under a millisecond. Raises NetworkSetupError.
    """
    try:
        return parse_fib_trie(Path("/proc/1/net/fib_trie").read_text())
    except OSError as error:
        raise NetworkSetupError(f"the host's addresses can't be read from /proc/1/net/fib_trie: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a sandbox may reach. The longest prefix decides; what neither names is open (the internet)."""

    link: SandboxLink
    closed: frozenset[IPv4Network]
    opened: frozenset[IPv4Network]


def plan(link: SandboxLink, host: HostNetworks, policy: NetworkPolicy) -> Plan:
    """Decide what a sandbox may reach. Pure.

    * What is private, special, connected to the host, or denied is closed, unless an allowed network contains it;
    * an allowed network is open;
    * the host's own addresses stay closed unless exactly that address is allowed;
    * other sandboxes, broadcasts and multicasts stay closed, whatever is allowed.
    """
    permitted = set(policy.allowed)
    closed = {*CLOSED, *host.connected, *policy.denied}
    closed = {net for net in closed if not any(net.subnet_of(wider) for wider in permitted)}
    closed |= {net for net in map(IPv4Network, (*host.addresses, link.gateway)) if net not in permitted}
    closed |= {link.subnet, *_TO_MANY}
    opened = {
        net
        for net in permitted
        if net not in closed and (not net.subnet_of(link.subnet) or net == IPv4Network(link.gateway))
    }
    return Plan(link=link, closed=frozenset(closed), opened=frozenset(opened))


def routes(planned: Plan) -> list[str]:
    """Return the plan as `ip -batch` lines. Pure."""
    link = planned.link
    via = f"via {link.gateway} dev {link.interface} onlink"
    return [
        f"route del {link.subnet} dev {link.interface}",
        f"route replace default {via}",
        *(f"route replace unreachable {net}" for net in sorted(planned.closed)),
        *(f"route replace {net} {via}" for net in sorted(planned.opened) if net.prefixlen > 0),
    ]


def filter_rules(planned: Plan) -> list[str]:
    """Return the plan as `iptables-restore` lines. Pure."""
    verdicts = dict.fromkeys(planned.opened, "ACCEPT") | dict.fromkeys((*planned.closed, _LOOPBACK), "DROP")
    # The first match decides, so that the longest prefix comes first.
    ordered = sorted(verdicts, key=lambda net: (-net.prefixlen, net))
    return [
        "*filter",
        ":INPUT ACCEPT [0:0]",
        ":FORWARD DROP [0:0]",
        ":OUTPUT ACCEPT [0:0]",
        "-A OUTPUT -o lo -j ACCEPT",
        *(f"-A OUTPUT -d {net} -j {verdicts[net]}" for net in ordered),
        "COMMIT",
    ]


def close_in(planned: Plan) -> None:
    """Apply the plan in the network namespace of the calling thread. Blocking. Raises NetworkSetupError."""
    _run_tool(("ip", "-batch", "-"), routes(planned), "iproute2")
    failures = []
    for tool in _FILTER_TOOLS:
        try:
            _run_tool((tool, "-w", "5"), filter_rules(planned), "iptables")
        except NetworkSetupError as error:
            failures.append(str(error))
        else:
            return
    raise NetworkSetupError(" · ".join(failures))


def _run_tool(command: tuple[str, ...], lines: Iterable[str], package: str) -> None:
    name = " ".join(command)
    try:
        done = subprocess.run(
            command,
            input="".join(f"{line}\n" for line in lines),
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NetworkSetupError(f"`{name}` did not run: {error}. The package {package} provides it") from error
    if done.returncode != 0:
        raise NetworkSetupError(
            f"`{name}` ended with {done.returncode}: {done.stderr.strip()}. The worker needs the capability NET_ADMIN"
        )


def parse_networks(texts: Iterable[str]) -> tuple[IPv4Network, ...]:
    """Parse the operator's CIDRs. Raises ValueError, naming the text that is none."""
    found = []
    for text in texts:
        try:
            network = ipaddress.ip_network(text.strip(), strict=True)
        except ValueError as error:
            raise ValueError(f"{text!r} is not a network such as 10.1.0.0/16 or 10.1.2.3/32: {error}") from error
        if not isinstance(network, IPv4Network):
            raise ValueError(f"{text!r} is an IPv6 network; functions have IPv4 only")
        found.append(network)
    return tuple(found)
