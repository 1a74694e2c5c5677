"""What must be true before anything is started, each told with what to do."""

from __future__ import annotations

import errno
import ipaddress
import socket

import httpx

from cli.errors import CliError, UsageError


def parse_listen(written: str) -> tuple[str, int]:
    """Return host and port of `HOST:PORT`; `[::1]:4566` for IPv6. Raises: `UsageError`."""
    host, colon, port = written.rpartition(":")
    is_bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise UsageError(f"--listen takes HOST:PORT, such as 127.0.0.1:4566; not {written!r}")
    if ":" in host and not is_bracketed:
        raise UsageError(f"an IPv6 address is written in brackets, such as [::1]:4566; not {written!r}")
    return (host[1:-1] if is_bracketed else host), int(port)


def require_loopback(host: str) -> None:
    """Raises: `UsageError` for an address that other machines can reach: whoever reaches the API may run code."""
    try:
        is_loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise UsageError(
            f"--listen {host}: other machines could reach this address, and whoever reaches the API may run code. "
            "Listen on 127.0.0.1 or ::1, behind a proxy that authenticates"
        )


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket, which the controllers inherit: none of them loses a connection by a restart.

    Raises: `CliError` when the address is taken or not ours.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise UsageError(f"--listen: there is no address for {host!r}: {error.strerror}") from None
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise _bind_error(host, port, error) from None
    return listener


def url_of(listener: socket.socket) -> str:
    """Return the URL by which this machine reaches a listening socket."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def require_root(effective_uid: int) -> None:
    """Raises: `CliError` when the platform's worker could not do its work."""
    if effective_uid != 0:
        raise CliError(
            f"`lambdock serve` must run as root, not as user {effective_uid}: the worker enters the namespaces of "
            "sandboxes and sets their limits. Run: sudo lambdock serve   (or `make up`, which needs only Docker)"
        )


async def require_docker(docker_host: str) -> str:
    """Return the engine's API version. Raises: `CliError` when no Docker Engine answers at `docker_host`."""
    advice = "Start it (systemctl start docker), or name another one in DOCKER_HOST."
    scheme, _, rest = docker_host.partition("://")
    if scheme == "unix":
        transport, url = httpx.AsyncHTTPTransport(uds=rest), "http://docker/_ping"
    elif scheme in ("tcp", "http"):
        transport, url = httpx.AsyncHTTPTransport(), f"http://{rest}/_ping"
    else:
        raise CliError(f"DOCKER_HOST is {docker_host!r}; supported are unix://PATH and tcp://HOST:PORT")
    try:
        async with httpx.AsyncClient(transport=transport, timeout=5.0) as client:
            response = await client.get(url)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        if isinstance(error.__context__, PermissionError) or "ermission" in str(error):
            raise CliError(f"this user may not use the Docker Engine at {docker_host}. Run with sudo.") from None
        raise CliError(
            f"no Docker Engine answers at {docker_host}: {error or type(error).__name__}. {advice}"
        ) from None
    if response.status_code != 200:
        raise CliError(f"the Docker Engine at {docker_host} answers with HTTP {response.status_code}. {advice}")
    return str(response.headers.get("api-version", "unknown"))


def _bind_error(host: str, port: int, error: OSError) -> CliError:
    if error.errno == errno.EADDRINUSE:
        other = port + 1 if port < 65535 else port - 1
        return CliError(
            f"port {port} on {host} is taken by another program: see which with `ss -ltnp 'sport = :{port}'`. "
            f"Stop it, or choose another address: lambdock serve --listen {host}:{other}"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return CliError(f"{host} is not an address of this machine; see `ip address`, or use --listen 127.0.0.1:{port}")
    return CliError(f"cannot listen on {host}:{port}: {error.strerror}")
