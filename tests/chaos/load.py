"""Callers that keep a number of invocations in flight, and remember how each of them ended."""

from __future__ import annotations

import json
import random
import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

import botocore.exceptions as boto

from tests.platform_under_test import Platform

#: Nobody waits longer than this beyond what the function itself takes, whatever happens.
PATIENCE_S = 15.0
_CUT_OFF = (boto.EndpointConnectionError, boto.ConnectionClosedError, boto.HTTPClientError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How one call ended."""

    kind: str
    took_s: float
    sleep_s: float
    #: `ok`, `5xx`, `cut off` (no HTTP answer), or what it must not be.
    outcome: str
    detail: str = ""


@dataclass(slots=True)
class Load:
    """`callers` threads; every third one sends events. Use as a context manager: leaving it waits for all."""

    platform: Platform
    sleeper: str
    recorder: str
    rng: random.Random
    callers: int = 20
    ended: list[Ended] = field(default_factory=list)
    #: Ids of the events that were accepted.
    accepted: list[str] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _in_flight: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Load:
        seeds = [self.rng.random() for _ in range(self.callers)]
        client = self.platform.client(read_timeout=60)
        for at, seed in enumerate(seeds):
            work = self._send_events if at % 3 == 2 else self._call
            thread = threading.Thread(target=self._repeat, args=(work, client, random.Random(seed)), daemon=True)
            self._threads.append(thread)
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        deadline = time.monotonic() + 60
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        hanging = sum(thread.is_alive() for thread in self._threads)
        assert not hanging, f"{hanging} callers hang"

    @property
    def in_flight(self) -> int:
        """Calls that have no answer yet."""
        with self._lock:
            return self._in_flight

    def wait(self, seconds: float) -> None:
        """Let the calls go on for a while: how long is part of the schedule, and nothing is waited for."""
        self._stopping.wait(seconds)

    def check(self, *, may_be_cut_off: bool) -> None:
        """Fail unless every call had its result or an AWS-shaped 5xx in time."""
        allowed = {"ok", "5xx"} | ({"cut off"} if may_be_cut_off else set())
        wrong = [end for end in self.ended if end.outcome not in allowed]
        assert not wrong, f"{len(wrong)} of {len(self.ended)} calls ended otherwise: {wrong[:5]}"
        late = [end for end in self.ended if end.took_s > end.sleep_s + PATIENCE_S]
        assert not late, f"{len(late)} calls took too long: {late[:5]}"

    def summary(self) -> str:
        """Count the ends by kind."""
        counts: dict[str, int] = {}
        for end in self.ended:
            counts[f"{end.kind} {end.outcome}"] = counts.get(f"{end.kind} {end.outcome}", 0) + 1
        slowest = max((end.took_s - end.sleep_s for end in self.ended), default=0.0)
        return f"{counts}, slowest {slowest:.1f} s"

    def _repeat(self, work: Any, client: Any, rng: random.Random) -> None:
        while not self._stopping.is_set():
            with self._lock:
                self._in_flight += 1
            try:
                end = work(client, rng)
            finally:
                with self._lock:
                    self._in_flight -= 1
            self.ended.append(end)
            if end.outcome != "ok":
                # As any client would: not at once again.
                self._stopping.wait(0.2)

    def _call(self, client: Any, rng: random.Random) -> Ended:
        token, sleep_s = uuid.uuid4().hex, round(rng.uniform(0.1, 2.0), 2)
        event = json.dumps({"token": token, "sleep_s": sleep_s})

        def send() -> str:
            answer = client.invoke(FunctionName=self.sleeper, Payload=event)
            body = json.loads(answer["Payload"].read())
            if "FunctionError" in answer or body.get("token") != token:
                return f"not its own result: {answer.get('FunctionError')} {body}"
            return "ok"

        return _judged("call", sleep_s, send)

    def _send_events(self, client: Any, rng: random.Random) -> Ended:
        def send() -> str:
            answer = client.invoke(FunctionName=self.recorder, InvocationType="Event", Payload=b"{}")
            self.accepted.append(answer["ResponseMetadata"]["RequestId"])
            return "ok"

        end = _judged("event", 0.0, send)
        self._stopping.wait(rng.uniform(0.3, 1.0))
        return end


def _judged(kind: str, sleep_s: float, send: Any) -> Ended:
    began = time.monotonic()
    detail = ""
    try:
        outcome = send()
    except boto.ClientError as error:
        code, status = error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
        detail = f"{status} {code}: {error.response['Error'].get('Message')}"
        is_shaped = status >= 500 and code == "ServiceException" and "RequestId" in error.response["ResponseMetadata"]
        outcome = "5xx" if is_shaped else "refused"
    except _CUT_OFF as error:
        is_hanging = isinstance(error, boto.ReadTimeoutError)
        outcome, detail = ("hangs" if is_hanging else "cut off"), repr(error)
    return Ended(kind=kind, took_s=time.monotonic() - began, sleep_s=sleep_s, outcome=outcome, detail=detail)
