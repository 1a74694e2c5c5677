"""The functions that chaos is made with: a caller's, an event's, and one that tells when it runs."""

from __future__ import annotations

#: Answers with what tells its caller that this is its own result.
SLEEPER = """
import time

def handler(event, context):
    time.sleep(event["sleep_s"])
    return {"token": event["token"], "request_id": context.aws_request_id}
"""

#: Says that it has begun; the log is on the worker's disk a second later, long before the event is acknowledged.
RECORDER = """
import time

def handler(event, context):
    print("ran", context.aws_request_id)
    time.sleep(event.get("sleep_s", 1.5))
"""

#: Tells the instants of the machine's clock between which it ran.
TIMEKEEPER = """
import time

def handler(event, context):
    began = time.time()
    print("began", context.aws_request_id, began, flush=True)
    while time.time() < began + event["sleep_s"]:
        time.sleep(0.05)
        print("alive", context.aws_request_id, time.time(), flush=True)
"""


def answering(word: str) -> str:
    """Return the code of a function that always answers this word."""
    return f"def handler(event, context):\n    return {word!r}\n"
