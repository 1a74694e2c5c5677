"""Compares what Redis believes with what is true of the engine and the disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import docker
import redis

from contract.keys import Keys
from tests.platform_under_test import Platform

_MB = 2**20


class Truth:
    """Of one platform at rest: nothing runs, nobody calls."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._keys = Keys(platform.cell)

    def check(self, *, within_s: float = 30.0) -> None:
        """Wait until the platform has come to rest and every count equals the truth; fail naming those that do not."""
        found: list[str] = ["never looked"]

        def is_true() -> bool:
            try:
                found[:] = self.violations()
            except redis.RedisError as error:
                found[:] = [f"Redis does not answer: {error}"]
            return not found

        try:
            self._platform.wait_until(is_true, "counts equal the truth", timeout_s=within_s)
        except AssertionError as error:
            raise AssertionError("\n".join(["counts differ from the truth:", *found, str(error)])) from None

    def violations(self) -> list[str]:
        """Return one sentence for each thing that is not as it must be at rest."""
        with self._platform.redis() as connection:
            instances = {item.decode() for item in connection.smembers(self._keys.workers())}
            live = {
                instance
                for instance in instances
                if connection.hget(self._keys.worker(instance), "state") == b"live"
            }  # fmt: skip
            found = [f"instance {instance} is not live and not buried" for instance in sorted(instances - live)]
            found += self._busy(connection)
            found += self._events(connection)
            containers = self._containers()
            found += _foreign(containers, live)
            found += self._counts(connection, containers, live)
        found += self._left_files(live)
        found += self._left_volumes(containers)
        return found

    # --- Redis alone ----------------------------------------------------------------------------------------------

    def _busy(self, connection: redis.Redis) -> list[str]:
        found = []
        for pattern in ("inflight:*", "held:*"):
            for key in connection.scan_iter(f"{self._keys.prefix}{pattern}"):
                is_sorted = connection.type(key) == b"zset"
                members = connection.zrange(key, 0, -1) if is_sorted else connection.smembers(key)
                found += [f"{key.decode()} still has {member.decode()}" for member in members]
        if connection.exists(self._keys.reconciling()):
            found.append("the cell still reconciles")
        return found

    def _events(self, connection: redis.Redis) -> list[str]:
        found = []
        for key in connection.scan_iter(f"{self._keys.prefix}event:*"):
            state = connection.hget(key, "state") or b"?"
            found.append(f"{key.decode()} has not run to its end: {state.decode()}")
        return found

    # --- Redis against the engine -----------------------------------------------------------------------------------

    def _containers(self) -> list[dict[str, Any]]:
        client = docker.from_env()
        try:
            found = []
            for listed in client.api.containers(all=True, filters={"label": f"lambdock={self._platform.cell}"}):
                try:
                    found.append(client.api.inspect_container(listed["Id"]))
                except docker.errors.NotFound:
                    continue
            return found
        finally:
            client.close()

    def _counts(
        self, connection: redis.Redis, containers: Iterable[dict[str, Any]], live: Iterable[str]
    ) -> list[str]:  # fmt: skip
        found = []
        true_mb = sum(container["HostConfig"]["Memory"] // _MB for container in containers)
        for key in connection.scan_iter(f"{self._keys.prefix}engine:*"):
            reserved = int(connection.hget(key, "reserved_mb") or 0)
            if reserved != true_mb:
                found.append(f"{reserved} MB are reserved, the containers have {true_mb} MB")
        ledger_mb = 0
        for key in connection.scan_iter(f"{self._keys.prefix}reserved:*"):
            ledger_mb += sum(int(mb) for mb in connection.hvals(key))
        if ledger_mb != true_mb:
            found.append(f"reservations of {ledger_mb} MB, the containers have {true_mb} MB")
        tokens: Counter[str] = Counter()
        for key in connection.scan_iter(f"{self._keys.prefix}idle:*"):
            tokens.update(item.decode() for item in connection.lrange(key, 0, -1))
        alive = Counter(_instance(container) for container in containers if container["State"]["Running"])
        found += [
            f"{instance} has {tokens[instance]} idle tokens and {alive[instance]} live containers"
            for instance in sorted({*tokens, *alive, *live})
            if tokens[instance] != alive[instance]
        ]
        return found

    # --- files and volumes ------------------------------------------------------------------------------------------

    def _left_files(self, live: Iterable[str]) -> list[str]:
        kept = {tuple(instance.rsplit("@", 1)) for instance in live}
        found = [
            f"the files of a dead owner are left: {life}"
            for state_dir in (self._platform.state_dir, *self._platform.state_dir.glob("workers/*"))
            for root in ("run", "tmp")
            for life in (state_dir / root / self._platform.cell).glob("*/*")
            if (life.parent.name, life.name) not in kept
        ]
        for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
            try:
                file = Path(backing.read_text().strip())
            except OSError:
                continue
            if self._platform.state_dir in file.parents and (file.parent.parent.name, file.parent.name) not in kept:
                found.append(f"the loop device of a dead owner is left: {backing.parent.parent.name} of {file}")
        return found

    def _left_volumes(self, containers: Iterable[dict[str, Any]]) -> list[str]:
        client = docker.from_env()
        try:
            volumes = client.api.volumes(filters={"label": f"lambdock={self._platform.cell}"})["Volumes"] or []
        finally:
            client.close()
        used = {mount.get("Name") for container in containers for mount in container["Mounts"]}
        return [f"a volume without its container: {item['Name']}" for item in volumes if item["Name"] not in used]


def _instance(container: dict[str, Any]) -> str:
    labels = container["Config"]["Labels"]
    return f"{labels['lambdock.worker']}@{labels['lambdock.epoch']}"


def _foreign(containers: Iterable[dict[str, Any]], live: Iterable[str]) -> list[str]:
    return [
        f"container {container['Name']} of the dead owner {_instance(container)} is left"
        for container in containers
        if _instance(container) not in live
    ]
