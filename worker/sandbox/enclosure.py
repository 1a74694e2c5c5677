"""Closes a sandbox's network in, and opens the worker's sockets inside it."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Interface
from typing import Any

from worker.sandbox import dns, namespace, network
from worker.sandbox.driver import SandboxSpec
from worker.sandbox.life import Life

RUNTIME_API_ADDRESS = ("127.0.0.1", 9001)
_DNS_ADDRESS = ("127.0.0.1", dns.PORT)


class Enclosure:
    """What the operator decides about all sandboxes' networks, applied to one after the other."""

    def __init__(
        self, bridge: str, policy: network.NetworkPolicy, resolvers: Sequence[dns.Resolver] | None = None
    ) -> None:
        """`resolvers` answer the sandboxes' DNS queries; None means the worker's own, read anew for each start."""
        self._bridge = bridge
        self._policy = policy
        self._resolvers = resolvers

    async def close_in(self, spec: SandboxSpec, life: Life, found: dict[str, Any]) -> list[socket.socket]:
        """Close the network of a process in, begin to answer its DNS queries, and open its listeners.

        `found` is what the engine tells about the process's container. Returns the Runtime API's socket, then one for
        each of `spec.listeners`. Raises NamespaceError, NetworkSetupError, OSError, ValueError.
        """
        planned = network.plan(_link(found, self._bridge), network.read_host_networks(), self._policy)

        def inside() -> tuple[socket.socket, list[socket.socket]]:
            network.close_in(planned)
            udp = namespace.open_udp(*_DNS_ADDRESS)
            try:
                return udp, _open(_DNS_ADDRESS, RUNTIME_API_ADDRESS, *spec.listeners)
            except BaseException:
                udp.close()
                raise

        udp, (tcp, *listeners) = await namespace.run_in(life.process.namespace, inside)
        try:
            resolvers = self._resolvers if self._resolvers is not None else dns.system_resolvers()
            life.dns = dns.DnsForwarder(udp, tcp, resolvers, spec.names)
        except ValueError:
            for each in (udp, tcp, *listeners):
                each.close()
            raise
        life.dns.start()
        return listeners

    async def open_again(self, spec: SandboxSpec, life: Life) -> list[socket.socket]:
        """Open the listeners, which their owner has closed, in a network that is closed in already."""
        return await namespace.run_in(life.process.namespace, lambda: _open(RUNTIME_API_ADDRESS, *spec.listeners))


def _open(*addresses: tuple[str, int]) -> list[socket.socket]:
    opened: list[socket.socket] = []
    try:
        opened.extend(namespace.open_listener(*address) for address in addresses)
    except BaseException:
        for each in opened:
            each.close()
        raise
    return opened


def _link(found: dict[str, Any], name: str) -> network.SandboxLink:
    place = found["NetworkSettings"]["Networks"][name]
    return network.SandboxLink(
        gateway=IPv4Address(place["Gateway"]),
        subnet=IPv4Interface(f"{place['IPAddress']}/{place['IPPrefixLen']}").network,
    )
