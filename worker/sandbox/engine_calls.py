"""What the sandbox driver asks of the engine, each with a deadline and with the engine's words in its errors."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import os
import socket
import tarfile
from collections.abc import Callable, Mapping
from typing import Any

import docker.errors
import requests.exceptions

from worker.engine import DockerEngine
from worker.sandbox.identity import CELL_LABEL, ENGINE_LABEL

#: Longer than the client's own limit for silence: when it passes, no call is under way that could still make things.
DEADLINE_S = 90.0
_FORBIDDEN = 403
_NOT_FOUND = 404
_CONFLICT = 409
#: How long another one's network may take to appear.
_NETWORK_LOOKS = 100
_NETWORK_LOOK_S = 0.05
#: Of a container's changes.
_ADDED = 1
#: The bits by which the engine marks, in a file's mode, all that is no plain file (Go's `fs.ModeType`).
_KINDS = 0x8F280000

#: Every way in which a call can fail that is the engine's matter.
ENGINE_ERRORS = (docker.errors.DockerException, requests.exceptions.RequestException, TimeoutError, OSError)


def bridge_name(engine_id: str, network: str) -> str:
    """Return the name of a network's bridge on its host, where a second engine may have the same cell.

    The engine takes two networks of one name when they are made at the same moment, and then knows neither by it. It
    never gives two of them one bridge: the name makes the second one fail.
    """
    return "ldk" + hashlib.sha256(f"{engine_id} {network}".encode()).hexdigest()[:10]


class EngineCalls:
    """The engine's container, volume and network requests."""

    def __init__(self, engine: DockerEngine) -> None:
        """Use `engine`, which the caller closes."""
        self._engine = engine
        self._api: Any = engine.client.api
        self._networks: set[str] = set()
        self._network_lock = asyncio.Lock()

    async def create(self, config: dict[str, Any], name: str) -> str:
        """Create a container on its (existing or now made) network, or in another container's, and return its id."""
        network = config["HostConfig"]["NetworkMode"]
        if network.startswith("container:"):
            return str((await self._call(self._api.create_container_from_config, config, name))["Id"])
        await self._ensure_network(network, config["Labels"])
        try:
            created = await self._call(self._api.create_container_from_config, config, name)
        except docker.errors.NotFound as error:
            if "network" not in str(error):
                raise
            # Somebody removed the bridge since we saw it.
            self._networks.discard(network)
            await self._ensure_network(network, config["Labels"])
            created = await self._call(self._api.create_container_from_config, config, name)
        return str(created["Id"])

    async def start(self, container: str) -> dict[str, Any]:
        """Start a container and return what the engine tells about it."""
        await self._call(self._api.start, container)
        return await self.inspect(container)

    async def attach(self, container: str) -> socket.socket:
        """Return a connection that carries what a container, not started yet, will write in its next life.

        Pieces come with a header of 8 bytes: number of the stream, 3 zeros, length.
        """
        connection: socket.socket = await self._call(self._attach, container)
        return connection

    def _attach(self, container: str) -> socket.socket:
        opened = self._api.attach_socket(container, params={"stdout": 1, "stderr": 1, "stream": 1})
        # The SDK's objects around it close nothing by themselves.
        try:
            connection = socket.socket(fileno=os.dup(opened.fileno()))
        finally:
            opened._response.close()
        connection.setblocking(False)
        return connection

    async def added_paths(self, container: str) -> set[str]:
        """Return what a container has beyond its image."""
        changes = await self._call(self._api.diff, container)
        return {change["Path"] for change in changes or () if change["Kind"] == _ADDED}

    async def read_file(self, container: str, path: str, limit_bytes: int) -> bytes:
        """Return a file of a container that need not run, links followed as inside it; empty when there is none.

        Raises ValueError for more than `limit_bytes`, and for what is no file.
        """
        return bytes(await self._call(self._read_file, container, path, limit_bytes))

    def _read_file(self, container: str, path: str, limit_bytes: int) -> bytes:
        try:
            stream, found = self._api.get_archive(container, path)
            if found["linkTarget"]:
                stream.close()
                # Where it ends, through all further links.
                stream, found = self._api.get_archive(container, found["linkTarget"])
        except docker.errors.NotFound:
            return b""
        with contextlib.closing(stream):
            if found["mode"] & _KINDS:
                raise ValueError(f"{path} is no file")
            if found["size"] > limit_bytes:
                raise ValueError(f"{path} has {found['size']} bytes; at most {limit_bytes} are read")
            packed = b"".join(stream)
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            file = archive.extractfile(archive.getmembers()[0])
            return file.read() if file else b""

    async def inspect(self, container: str) -> dict[str, Any]:
        """Return what the engine tells about a container."""
        found: dict[str, Any] = await self._call(self._api.inspect_container, container)
        return found

    async def wait_stopped(self, container: str) -> None:
        """Return once the engine itself knows that a container does not run."""
        await self._call(self._api.wait, container)

    async def kill(self, container: str) -> None:
        """Send SIGKILL; no error for a container that does not run or exist."""
        try:
            await self._call(self._api.kill, container)
        except docker.errors.APIError as error:
            if error.status_code not in (_NOT_FOUND, _CONFLICT):
                raise

    async def remove(self, container: str) -> None:
        """Kill and remove a container and its anonymous volumes; no error for an unknown one."""
        try:
            await self._call(self._api.remove_container, container, v=True, force=True)
        except docker.errors.APIError as error:
            if error.status_code == _CONFLICT and "already in progress" in str(error):
                await self._call(self._api.wait, container, condition="removed")
            elif error.status_code != _NOT_FOUND:
                raise

    async def remove_named(self, name: str, labels: dict[str, str]) -> None:
        """Remove the container called `name` if it carries all of `labels`; no error for one that doesn't exist."""
        try:
            found = await self.inspect(name)
        except docker.errors.NotFound:
            return
        if labels.items() <= (found["Config"]["Labels"] or {}).items():
            await self.remove(found["Id"])

    async def list_containers(self, labels: list[str]) -> list[dict[str, Any]]:
        """Return all containers, running or not, with the labels."""
        found: list[dict[str, Any]] = await self._call(self._api.containers, all=True, filters={"label": labels})
        return found

    async def remove_volume(self, name: str) -> None:
        """Remove a volume that no container uses any more; no error for an unknown one."""
        try:
            await self._call(self._api.remove_volume, name)
        except docker.errors.APIError as error:
            if error.status_code != _NOT_FOUND:
                raise

    async def remove_unused_volumes(self, labels: list[str], belongs: Callable[[dict[str, str]], bool]) -> None:
        """Remove volumes that no container uses, with the labels and with further ones that `belongs` accepts."""
        found = await self._call(self._api.volumes, filters={"label": labels, "dangling": True})
        for volume in found["Volumes"] or []:
            if belongs(volume.get("Labels") or {}):
                try:
                    await self._call(self._api.remove_volume, volume["Name"])
                except docker.errors.APIError as error:
                    if error.status_code not in (_NOT_FOUND, _CONFLICT):
                        raise

    async def remove_network(self, name: str) -> None:
        """Remove a network; no error for one that is unknown or in use."""
        self._networks.discard(name)
        try:
            await self._call(self._api.remove_network, name)
        except docker.errors.APIError as error:
            if error.status_code not in (_NOT_FOUND, _CONFLICT, _FORBIDDEN):
                raise

    async def _ensure_network(self, name: str, labels: Mapping[str, str]) -> None:
        cell = labels[CELL_LABEL]
        if name in self._networks:
            return
        async with self._network_lock:
            if name in self._networks:
                return
            try:
                found = await self._call(self._api.inspect_network, name)
            except docker.errors.NotFound:
                await self._create_network(name, cell, bridge_name(labels[ENGINE_LABEL], name))
                found = await self._call(self._api.inspect_network, name)
            if (found.get("Labels") or {}).get(CELL_LABEL) != cell:
                raise docker.errors.DockerException(
                    f"a network {name!r} exists that is not Lambdock's (label {CELL_LABEL}={cell} expected, found "
                    f"{found.get('Labels')}); remove it, or choose another name for the cell"
                )
            self._networks.add(name)

    async def _create_network(self, name: str, cell: str, bridge: str) -> None:
        try:
            await self._call(
                self._api.create_network,
                name,
                driver="bridge",
                options={"com.docker.network.bridge.enable_icc": "false", "com.docker.network.bridge.name": bridge},
                enable_ipv6=False,
                check_duplicate=True,
                labels={CELL_LABEL: cell},
            )
        except docker.errors.APIError as error:
            # Another worker of the cell made it at the same moment, or is making it.
            if error.status_code not in (_CONFLICT, _FORBIDDEN):
                raise
            await self._wait_for_network(name, error)

    async def _wait_for_network(self, name: str, refusal: docker.errors.APIError) -> None:
        for _ in range(_NETWORK_LOOKS):
            try:
                await self._call(self._api.inspect_network, name)
            except docker.errors.NotFound:
                await asyncio.sleep(_NETWORK_LOOK_S)
            else:
                return
        raise refusal

    async def _call(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        async with asyncio.timeout(DEADLINE_S):
            return await self._engine.call(fn, *args, **kwargs)
