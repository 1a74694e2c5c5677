"""The background container's health check: its RQ worker has shown itself lately.

The sweep is a job every few seconds, and every job is a sign of life; a process that hangs in one, or lost its Redis,
gives none.
"""

from __future__ import annotations

import os
import socket
import sys
from datetime import UTC, datetime

import redis

#: Several sweeps, and the longest job.
MAX_AGE_S = 90


def main() -> int:
    """Return 0 when the background process is well, else 1 with the reason on standard error."""
    client = redis.Redis.from_url(
        os.environ["LAMBDOCK_REDIS_URL"], socket_timeout=3, socket_connect_timeout=3, decode_responses=True
    )
    try:
        ages = [
            (datetime.now(UTC) - datetime.fromisoformat(str(beat))).total_seconds()
            for key in client.smembers(f"rq:workers:lambdock-{os.environ['LAMBDOCK_CELL']}")
            for host, beat in [client.hmget(key, "hostname", "last_heartbeat")]
            if host == socket.gethostname() and beat
        ]
    except redis.RedisError as error:
        return unhealthy(f"Redis does not answer: {error}")
    if not ages:
        return unhealthy("this process takes no jobs")
    return unhealthy(f"the last sign of life was {min(ages):.0f} s ago") if min(ages) > MAX_AGE_S else 0


def unhealthy(reason: str) -> int:
    """Say why and return the exit code."""
    sys.stderr.write(reason + "\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
