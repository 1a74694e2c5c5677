"""`python -m controller.background`: the RQ worker, the listener for answers, and the clock of the periodic jobs."""

from __future__ import annotations

import asyncio
import logging
import math
import sys
import threading
import time
from collections.abc import Callable
from types import MappingProxyType
from typing import Final

from pydantic import ValidationError
from redis.exceptions import RedisError
from rq import Queue, SimpleWorker

from contract.observability import configure_logging
from controller.preparation.queue import COLLECT_JOB, SWEEP_JOB, open_queue
from controller.process import open_parts
from controller.settings import ControllerSettings

log = logging.getLogger(__name__)

SWEEP_S: Final = 5.0
#: Looks at every function and every blob.
COLLECT_S: Final = 3600.0
PERIODIC_S: Final = MappingProxyType({SWEEP_JOB: SWEEP_S, COLLECT_JOB: COLLECT_S})
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


def sweep_forever(
    queue: Queue, stopping: threading.Event, *, look_s: float = SWEEP_S, clock: Callable[[], float] = time.monotonic
) -> None:
    """Enqueue each periodic job, unless it waits, at once and then whenever it is due, until `stopping` is set.

    Looks every `look_s` seconds. Nothing but `stopping` ends it.
    """
    # At once: whatever the process before this one had in its hands is asked for again.
    due_at = dict.fromkeys(PERIODIC_S, -math.inf)
    while True:
        try:
            now = clock()
            waiting = {job.func_name for job in queue.get_jobs(length=100)}
            for name, period_s in PERIODIC_S.items():
                if now < due_at[name]:
                    continue
                if name not in waiting:
                    queue.enqueue(name, result_ttl=0, failure_ttl=3600)
                due_at[name] = now + period_s
        except RedisError as error:
            log.warning("periodic jobs wait for Redis", extra={"error": str(error)})
        except Exception:
            log.exception("could not ask for the periodic jobs; asking again")
        if stopping.wait(look_s):
            return


if __name__ == "__main__":
    sys.exit(main())
