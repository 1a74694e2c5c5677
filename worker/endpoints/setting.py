"""LAMBDOCK_FUNCTION_ENDPOINTS: what it says, and what follows from it for every sandbox. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final
from urllib.parse import SplitResult, urlsplit

import orjson

#: Where the Lambda API listens inside every sandbox, beside the Runtime API (port 9001).
LAMBDA_API_ADDRESS: Final = ("127.0.0.1", 9002)
#: What the SDKs take for every service that has no variable of its own.
GENERAL_VARIABLE: Final = "AWS_ENDPOINT_URL"
LAMBDA_VARIABLE: Final = "AWS_ENDPOINT_URL_LAMBDA"
#: Endpoints are `127.0.100.n` inside sandboxes, one `n` for each host.
_NETWORK: Final = "127.0.100."
_MAX_HOSTS: Final = 254
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_SERVICE = re.compile(r"[a-z0-9][a-z0-9 _-]{0,62}")
_HOST = re.compile(r"(?!-)[a-z0-9_-]{1,63}(\.(?!-)[a-z0-9_-]{1,63})*")
_VARIABLE = "LAMBDOCK_FUNCTION_ENDPOINTS"
_EXAMPLE = "s3=http://minio:9000,dynamodb=https://db.internal:8000"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where the worker connects to for a function."""

    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionEndpoint:
    """One endpoint as the operator names it."""

    #: `S3`, as in AWS_ENDPOINT_URL_S3.
    service: str
    scheme: str
    target: Target
    #: What follows host and port in the URL; usually empty.
    path: str = ""

    @property
    def has_name(self) -> bool:
        """Whether sandboxes resolve its host by name; an address, and the worker's own `localhost`, they can't use."""
        return not _is_address(self.target.host) and not _is_local(self.target.host)

    @property
    def variable(self) -> str:
        """The variable by which SDKs find it."""
        return f"{GENERAL_VARIABLE}_{self.service}"


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointPlan:
    """What every sandbox of a worker gets: addresses to listen at, names, variables."""

    #: Address and port inside the sandbox → where what connects there is piped to.
    pipes: Mapping[tuple[str, int], Target] = field(default_factory=dict)
    #: Host name → address inside the sandbox, for it and all names below it.
    names: Mapping[str, str] = field(default_factory=dict)
    #: Variable → URL, as functions read it.
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def listeners(self) -> tuple[tuple[str, int], ...]:
        """Where to listen inside the sandbox: the Lambda API first, then the pipes in their order."""
        return (LAMBDA_API_ADDRESS, *self.pipes)


def plan(endpoints: tuple[FunctionEndpoint, ...]) -> EndpointPlan:
    """Decide addresses, names and variables. Endpoints of one host share an address, and of one port a listener."""
    hosts = list(dict.fromkeys(endpoint.target.host for endpoint in endpoints))
    addresses = {host: f"{_NETWORK}{number}" for number, host in enumerate(hosts, start=1)}
    lambda_host, lambda_port = LAMBDA_API_ADDRESS
    return EndpointPlan(
        pipes={(addresses[each.target.host], each.target.port): each.target for each in endpoints},
        names={each.target.host: addresses[each.target.host] for each in endpoints if each.has_name},
        variables={
            LAMBDA_VARIABLE: f"http://{lambda_host}:{lambda_port}",
            **{each.variable: _url(each, addresses[each.target.host]) for each in endpoints},
        },
    )


def variables_for(offered: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """Return which of the offered variables a function gets: none where it says itself where its services are."""
    if GENERAL_VARIABLE in own:
        return {}
    return {name: url for name, url in offered.items() if name not in own}


def parse_endpoints(text: str) -> tuple[FunctionEndpoint, ...]:
    """Read the setting, `service=URL,…` or JSON. Raises ValueError, naming what is wrong and what was expected."""
    text = text.strip()
    pairs = _json_pairs(text) if text.startswith("{") else _plain_pairs(text)
    found: dict[str, FunctionEndpoint] = {}
    for name, url in pairs:
        endpoint = _endpoint(name, url)
        if endpoint.service in found:
            raise ValueError(f"{_VARIABLE}: {name!r} is named twice; give each service one endpoint")
        found[endpoint.service] = endpoint
    if len({endpoint.target.host for endpoint in found.values()}) > _MAX_HOSTS:
        raise ValueError(f"{_VARIABLE}: endpoints on more than {_MAX_HOSTS} hosts; name fewer")
    return tuple(found.values())


def _plain_pairs(text: str) -> list[tuple[str, str]]:
    pairs = []
    for part in filter(None, map(str.strip, text.split(","))):
        name, equals, url = part.partition("=")
        if not equals:
            raise ValueError(f"{_VARIABLE}: {part!r} is no service=URL; expected, for example, {_EXAMPLE}")
        pairs.append((name.strip(), url.strip()))
    return pairs


def _json_pairs(text: str) -> list[tuple[str, str]]:
    try:
        loaded = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"{_VARIABLE} begins like JSON and is none: {error}") from error
    pairs = list(loaded.items())
    for name, url in pairs:
        if not isinstance(url, str):
            raise ValueError(
                f"{_VARIABLE}: the URL of {name!r} is {url!r}; expected a string such as http://minio:9000"
            )
    return pairs


def _endpoint(name: str, url: str) -> FunctionEndpoint:
    service = name.lower()
    if not _SERVICE.fullmatch(service):
        raise ValueError(
            f"{_VARIABLE}: {name!r} is no service; expected its id in AWS's SDKs, such as s3, dynamodb, secrets-manager"
        )
    split, port = _split(url)
    host = (split.hostname or "").rstrip(".")
    if split.scheme not in _DEFAULT_PORTS or not host or not 0 < port < 65536:
        raise ValueError(f"{_VARIABLE}: {url!r}, for {name}, is no http:// or https:// URL with a host and a port")
    if split.username is not None or split.query or split.fragment:
        raise ValueError(
            f"{_VARIABLE}: the URL for {name} has a user, query or fragment; expected only scheme, host, port and path"
        )
    if not _is_address(host) and not (_HOST.fullmatch(host) and len(host) <= 253):
        raise ValueError(f"{_VARIABLE}: {host!r}, for {name}, is neither a host name nor an IP address")
    endpoint = FunctionEndpoint(
        service=re.sub(r"[ -]", "_", service).upper(),
        scheme=split.scheme,
        target=Target(host=host, port=port),
        path=split.path.rstrip("/"),
    )
    if split.scheme == "https" and not endpoint.has_name:
        # Inside sandboxes it has another address, which no certificate of its own names.
        raise ValueError(
            f"{_VARIABLE}: {url!r}, for {name}, is https at an address; functions verify a certificate by a name, so"
            " give its host name"
        )
    return endpoint


def _split(url: str) -> tuple[SplitResult, int]:
    try:
        split = urlsplit(url)
        port = _DEFAULT_PORTS.get(split.scheme, 0) if split.port is None else split.port
    except ValueError as error:
        raise ValueError(f"{_VARIABLE}: {url!r} is no URL: {error}") from error
    return split, port


def _url(endpoint: FunctionEndpoint, address: str) -> str:
    host = endpoint.target.host if endpoint.has_name else address
    return f"{endpoint.scheme}://{host}:{endpoint.target.port}{endpoint.path}"


def _is_address(host: str) -> bool:
    return _address(host) is not None


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _is_local(host: str) -> bool:
    return host == "localhost" or host.endswith(".localhost")
