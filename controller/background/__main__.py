"""`python -m controller.background`: the RQ worker, the listener for answers, and the clock of the sweep."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import threading
from typing import Final

from pydantic import ValidationError
from redis.exceptions import RedisError
from rq import Queue, SimpleWorker

from contract.observability import configure_logging
from controller.preparation.queue import SWEEP_JOB, open_queue
from controller.process import open_parts
from controller.settings import ControllerSettings

log = logging.getLogger(__name__)

_SWEEP_S: Final = 5.0
_RECONNECT_S: Final = 1.0


def main() -> int:
    """Run until told to stop. Exit status 2: a setting is wrong."""
    try:
        settings = ControllerSettings()
    except ValidationError as error:
        print(f"lambdock background: {error}", file=sys.stderr)  # noqa: T201 - before logging is configured
        return 2
    configure_logging(settings.log_level)
    queue = open_queue(settings.redis_url, settings.cell)
    threading.Thread(target=_listen_forever, args=(settings,), name="listener", daemon=True).start()
    stopping = threading.Event()
    threading.Thread(target=sweep_forever, args=(queue, stopping), name="sweep", daemon=True).start()
    try:
        _work_forever(queue)
    finally:
        stopping.set()
    return 0


def _work_forever(queue: Queue) -> None:
    while True:
        # No fork per job: jobs only ask and store, and each opens what it needs.
        worker = SimpleWorker([queue], connection=queue.connection)
        try:
            worker.work(logging_level="WARNING")
        except RedisError as error:
            log.warning("jobs wait for Redis", extra={"error": str(error)})
            threading.Event().wait(_RECONNECT_S)
            continue
        return


def _listen_forever(settings: ControllerSettings) -> None:
    async def listen() -> None:
        async with open_parts(settings, is_migrating=True) as parts:
            await parts.asker.listen()

    while True:
        try:
            asyncio.run(listen())
        except Exception:
            log.exception("the listener begins again")
        threading.Event().wait(_RECONNECT_S)


def sweep_forever(queue: Queue, stopping: threading.Event) -> None:
    """Enqueue a sweep, unless one waits, at once and then every few seconds until `stopping` is set."""
    # At once: whatever the process before this one had in its hands is asked for again.
    while True:
        with contextlib.suppress(RedisError):
            if SWEEP_JOB not in {job.func_name for job in queue.get_jobs(length=100)}:
                queue.enqueue(SWEEP_JOB, result_ttl=0, failure_ttl=3600)
        if stopping.wait(_SWEEP_S):
            return


if __name__ == "__main__":
    sys.exit(main())
