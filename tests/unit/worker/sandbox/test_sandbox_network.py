from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.sandbox.network import (
    CLOSED,
    HostNetworks,
    NetworkPolicy,
    SandboxLink,
    filter_rules,
    parse_fib_trie,
    parse_networks,
    plan,
    routes,
)

LINK = SandboxLink(gateway=IPv4Address("172.18.0.1"), subnet=IPv4Network("172.18.0.0/16"))
HOST = HostNetworks(
    addresses=(IPv4Address("8.8.4.2"), IPv4Address("172.17.0.1"), IPv4Address("172.18.0.1")),
    connected=(IPv4Network("8.8.4.0/24"), IPv4Network("172.17.0.0/16")),
)
TRIE = """Main:
  +-- 0.0.0.0/0 3 0 4
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 127.0.0.0/8 2 0 2
           |-- 127.0.0.0
              /8 host LOCAL
           |-- 127.0.0.1
              /32 host LOCAL
     +-- 192.0.2.0/24 2 0 2
        +-- 192.0.2.0/30 2 0 2
           |-- 192.0.2.0
              /24 link UNICAST
           |-- 192.0.2.2
              /32 host LOCAL
        |-- 192.0.2.255
           /32 link BROADCAST
     |-- 203.0.113.7
        /32 universe UNICAST
"""


def reachable(address: str, *allowed: str, denied: tuple[str, ...] = ()) -> bool:
    """Decide as the kernel does, by the routes and by the filter, which must agree."""
    planned = plan(LINK, HOST, NetworkPolicy(allowed=parse_networks(allowed), denied=parse_networks(denied)))
    is_open = is_routed(address, routes(planned))
    assert passes(address, filter_rules(planned)) == is_open
    return is_open


def is_routed(address: str, lines: list[str]) -> bool:
    """The longest prefix wins."""
    best, is_open = -1, True
    for line in lines:
        words = line.split()
        if words[1] == "del":
            continue
        is_unreachable = words[2] == "unreachable"
        text = words[3] if is_unreachable else words[2]
        net = IPv4Network("0.0.0.0/0" if text == "default" else text)
        if IPv4Address(address) in net and net.prefixlen >= best:
            assert net.prefixlen > best, f"two routes for {net}"
            best, is_open = net.prefixlen, not is_unreachable
    return is_open


def passes(address: str, lines: list[str]) -> bool:
    """The first match wins."""
    for line in lines:
        words = line.split()
        if words[:3] == ["-A", "OUTPUT", "-d"] and IPv4Address(address) in IPv4Network(words[3]):
            return words[5] == "ACCEPT"
    return True


def test_broadcasts_and_multicasts_stay_closed_when_everything_is_allowed() -> None:
    for address in ("255.255.255.255", "224.0.0.1", "172.18.255.255"):
        assert not reachable(address, "0.0.0.0/0")


def test_loopback_addresses_do_not_leave_by_the_link() -> None:
    rules = filter_rules(plan(LINK, HOST, NetworkPolicy(allowed=parse_networks(["0.0.0.0/0"]))))

    assert rules.index("-A OUTPUT -o lo -j ACCEPT") < rules.index("-A OUTPUT -d 127.0.0.0/8 -j DROP")
    assert not passes("127.0.0.1", rules)


@pytest.mark.parametrize(
    "address",
    ["10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254", "224.0.0.1", "255.255.255.255",
     "172.18.0.1", "172.18.0.9", "172.17.0.1", "8.8.4.2", "8.8.4.77", "198.18.0.1", "192.0.0.8", "0.0.0.1"],
)  # fmt: skip
def test_private_special_and_host_addresses_are_closed(address: str) -> None:
    assert not reachable(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "8.8.8.8", "203.0.113.10", "172.32.0.1", "100.128.0.1"])
def test_internet_is_open(address: str) -> None:
    assert reachable(address)


def test_allowed_network_is_open_and_its_neighbours_are_not() -> None:
    assert reachable("10.1.2.3", "10.1.0.0/16")
    assert not reachable("10.2.0.1", "10.1.0.0/16")


def test_allowed_network_wider_than_a_closed_one_opens_it() -> None:
    assert reachable("10.1.2.3", "0.0.0.0/0")
    assert reachable("192.168.0.1", "192.0.0.0/8")


def test_allowed_network_does_not_open_the_host_or_other_sandboxes() -> None:
    assert not reachable("8.8.4.2", "8.8.4.0/24", "0.0.0.0/0")
    assert not reachable("172.18.0.9", "172.18.0.0/16", "172.18.0.8/29", "172.18.0.9/32", "172.16.0.0/12")


def test_host_address_opens_when_it_is_named() -> None:
    assert reachable("172.17.0.1", "172.17.0.1/32")
    assert reachable("172.18.0.1", "172.18.0.1/32")
    assert not reachable("172.17.0.2", "172.17.0.1/32")


def test_denied_network_is_closed() -> None:
    assert not reachable("1.1.1.1", denied=("1.1.1.0/24",))


@given(st.ip_addresses(v=4).filter(lambda address: any(address in net for net in CLOSED)))
def test_no_closed_address_is_reachable_whatever_it_is(address: IPv4Address) -> None:
    assert not reachable(str(address))


def test_fib_trie_gives_addresses_and_connected_networks() -> None:
    found = parse_fib_trie(TRIE)

    assert found.addresses == (IPv4Address("192.0.2.2"),)
    assert found.connected == (IPv4Network("192.0.2.0/24"),)


def test_fib_trie_of_nothing_is_nothing() -> None:
    assert parse_fib_trie("") == HostNetworks(addresses=(), connected=())


@pytest.mark.parametrize("text", ["10.0.0.1/8", "nonsense", "fd00::/8", ""])
def test_what_is_no_network_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match=text.split("/")[0] or "''"):
        parse_networks([text])
