"""Callers of one function beyond its limit, and what its invocations themselves say of when they ran."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import botocore.exceptions as boto

#: Tells between which instants it ran, by a clock that all sandboxes of this machine share, and in which environment.
SPAN = """
import time, uuid
ENVIRONMENT = uuid.uuid4().hex

def handler(event, context):
    began = time.monotonic()
    time.sleep(event["sleep_s"])
    return {"began": began, "ended": time.monotonic(), "environment": ENVIRONMENT}
"""


@dataclass(slots=True)
class LimitedLoad:
    """`callers` threads that call all the time. Use as a context manager: leaving it waits for all of them."""

    client: Any
    function: str
    callers: int
    sleep_s: float = 0.3
    #: `ok`, `throttled`, `5xx`, or what it must not be.
    ends: list[str] = field(default_factory=list)
    spans: list[tuple[float, float]] = field(default_factory=list)
    environments: set[str] = field(default_factory=set)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> LimitedLoad:
        for _ in range(self.callers):
            thread = threading.Thread(target=self._repeat, daemon=True)
            self._threads.append(thread)
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(timeout=60)
        hanging = sum(thread.is_alive() for thread in self._threads)
        assert not hanging, f"{hanging} callers hang"

    @property
    def succeeded(self) -> int:
        """How many invocations have ended well."""
        return self.ends.count("ok")

    def check(self, limit: int, *, allowed: Iterable[str] = ("ok", "throttled")) -> None:
        """Fail unless the limit was reached and never exceeded, and every call ended in an allowed way."""
        wrong = Counter(end for end in self.ends if end not in set(allowed))
        assert not wrong, f"of {len(self.ends)} calls some ended otherwise: {wrong.most_common(5)}"
        assert most_at_once(self.spans) == limit

    def more_succeed(self, count: int = 20) -> Callable[[], bool]:
        """Return a predicate that becomes true when so many more invocations have ended well."""
        wanted = self.succeeded + count
        return lambda: self.succeeded >= wanted

    def _repeat(self) -> None:
        event = json.dumps({"sleep_s": self.sleep_s})
        while not self._stopping.is_set():
            end = self._call(event)
            self.ends.append(end)
            if end != "ok":
                self._stopping.wait(0.1)

    def _call(self, event: str) -> str:
        try:
            answer = self.client.invoke(FunctionName=self.function, Payload=event)
        except boto.ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            return "throttled" if status == 429 else "5xx" if status >= 500 else str(error)
        except boto.BotoCoreError as error:
            return repr(error)
        told = json.loads(answer["Payload"].read())
        if "FunctionError" in answer:
            return f"function error {told}"
        self.spans.append((told["began"], told["ended"]))
        self.environments.add(told["environment"])
        return "ok"


def most_at_once(spans: Iterable[tuple[float, float]]) -> int:
    """Return how many of the spans overlap at the worst instant."""
    changes = sorted(change for began, ended in spans for change in ((began, 1), (ended, -1)))
    most = now = 0
    for _, change in changes:
        now += change
        most = max(most, now)
    return most
