"""Counts its invocations, twice: what an execution environment remembers, and what it does not."""

import time
import uuid
from pathlib import Path

# This part runs once, when an environment starts (a cold start). What it makes lives as long as the environment.
ENVIRONMENT = uuid.uuid4().hex[:8]
STARTED = time.monotonic()
COUNT_FILE = Path("/tmp/count")  # /tmp is the environment's own disk, and lives as long
count = 0


def handler(event, context):
    global count
    count += 1
    on_disk = int(COUNT_FILE.read_text()) + 1 if COUNT_FILE.exists() else 1
    COUNT_FILE.write_text(str(on_disk))
    # Holding an environment busy makes the platform start another one for the next caller.
    time.sleep(event.get("hold_s", 0))
    return {
        "environment": ENVIRONMENT,
        "is_cold_start": count == 1,
        "count_in_memory": count,
        "count_on_disk": on_disk,
        "age_s": round(time.monotonic() - STARTED, 1),
    }
