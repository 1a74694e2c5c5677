"""The worker container's health check: this worker's heartbeat in Redis is fresh."""

from __future__ import annotations

import os
import sys

import redis

from contract.keys import Keys
from deploy.images.worker_start import ID_FILE

#: Heartbeats come every few seconds; this one is long dead.
MAX_AGE_MS = 20_000


def main() -> int:
    """Return 0 when the worker is well, else 1 with the reason on standard error."""
    keys = Keys(os.environ["LAMBDOCK_CELL"])
    worker = ID_FILE.read_text(encoding="utf-8")
    client = redis.Redis.from_url(os.environ["LAMBDOCK_REDIS_URL"], socket_timeout=3, socket_connect_timeout=3)
    try:
        epoch = client.get(keys.epoch(worker))
        if epoch is None:
            return unhealthy(f"{worker} has not registered")
        beat = client.hget(keys.worker(f"{worker}@{int(epoch)}"), "heartbeat_ms")
        seconds, microseconds = client.time()
        age_ms = seconds * 1000 + microseconds // 1000 - int(beat or 0)
        return unhealthy(f"{worker}: last heartbeat {age_ms} ms ago") if age_ms > MAX_AGE_MS else 0
    except redis.RedisError as error:
        return unhealthy(f"Redis does not answer: {error}")


def unhealthy(reason: str) -> int:
    """Say why and return the exit code."""
    sys.stderr.write(reason + "\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
