"""What a function's log holds, and what `LogType=Tail` returns of it."""

from __future__ import annotations

import queue
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conformance.calls import call, deploy, log_messages, wait_for_log
from tests.platform_under_test import Platform

PRINTS = """
import sys
def handler(event, context):
    sys.stdout.write(event.get("out", ""))
    sys.stdout.flush()
    sys.stderr.write(event.get("err", ""))
    return context.log_stream_name
"""


@pytest.fixture(scope="module")
def prints(platform: Platform) -> str:
    return deploy(platform, PRINTS, MemorySize=128)


def test_a_tail_is_start_output_end_and_report_in_this_order(platform: Platform, prints: str) -> None:
    outcome = call(platform, prints, {"out": "one\n", "err": "two\n"})

    start, one, two, end, report = outcome.tail.splitlines()
    assert start == f"START RequestId: {outcome.request_id} Version: $LATEST"
    assert (one, two) == ("one", "two")
    assert end == f"END RequestId: {outcome.request_id}"
    assert re.fullmatch(
        rf"REPORT RequestId: {outcome.request_id}\tDuration: \d+\.\d\d ms\tBilled Duration: \d+ ms\t"
        r"Memory Size: 128 MB\tMax Memory Used: [1-9]\d* MB\t(Init Duration: \d+\.\d\d ms\t)?",
        report,
    )
    assert outcome.tail.endswith("\t\n")


def test_a_tail_is_the_last_4_kb(platform: Platform, prints: str) -> None:
    outcome = call(platform, prints, {"out": "x" * 100_000 + "\nlast line\n"})

    assert len(outcome.tail.encode()) == 4096
    assert outcome.tail.startswith("xxxx")
    assert "\nlast line\nEND RequestId" in outcome.tail


def test_a_line_without_an_end_is_ended_before_the_platforms_own(platform: Platform, prints: str) -> None:
    assert "\nno line break\nEND RequestId: " in call(platform, prints, {"out": "no line break"}).tail


def test_without_asking_there_is_no_tail(platform: Platform, prints: str) -> None:
    assert call(platform, prints, {"out": "quiet\n"}, LogType="None").tail == ""


def test_only_a_cold_start_tells_and_bills_its_init_duration(platform: Platform) -> None:
    name = deploy(platform, f"import time\ntime.sleep(0.3)\n{PRINTS}")

    cold, warm = call(platform, name, {}), call(platform, name, {})

    init_ms = float(cold.report["Init Duration"].removesuffix(" ms"))
    duration_ms = float(cold.report["Duration"].removesuffix(" ms"))
    billed_ms = int(cold.report["Billed Duration"].removesuffix(" ms"))
    assert 300 <= init_ms < 3_000
    assert duration_ms < 300
    assert abs(billed_ms - init_ms - duration_ms) <= 1.01
    assert "Init Duration" not in warm.report


def test_the_log_begins_with_the_start_of_the_environment(platform: Platform) -> None:
    name = deploy(platform, f"print('loading')\n{PRINTS}")
    outcome = call(platform, name, {"out": "running\n"})

    log = wait_for_log(platform, name, "REPORT RequestId")

    assert re.fullmatch(
        r"INIT_START Runtime Version: python:3\.11\.v\d+\tRuntime Version ARN: "
        r"arn:aws:lambda:us-east-1::runtime:[0-9a-f]+",
        log[0],
    )
    assert log[1:-1] == [
        "loading",
        f"START RequestId: {outcome.request_id} Version: $LATEST",
        "running",
        f"END RequestId: {outcome.request_id}",
    ]


def test_what_is_logged_through_logging_has_lambdas_form(platform: Platform) -> None:
    name = deploy(platform, "import logging\ndef handler(event, context):\n    logging.error('alas')\n")

    outcome = call(platform, name)

    assert re.search(rf"^\[ERROR\]\t[-0-9T:.]+Z\t{outcome.request_id}\talas$", outcome.tail, re.MULTILINE)


def test_the_log_goes_with_its_function(platform: Platform) -> None:
    name = deploy(platform, PRINTS)
    call(platform, name, {"out": "secret\n"})
    wait_for_log(platform, name, "secret")

    platform.client().delete_function(FunctionName=name)
    deploy(platform, PRINTS, name=name)

    assert log_messages(platform, name) == []


#: Prints just before it returns; sometimes from a child process that holds the same standard output.
LAST_WORDS = """
import os, subprocess
def handler(event, context):
    if event["child"]:
        subprocess.run(["/bin/sh", "-c", f"echo child-{event['id']}-end"], check=True)
    print(f"line-{event['id']}-end")
"""


@pytest.mark.timeout(180)
def test_every_one_of_1000_tails_has_what_was_printed_just_before_the_return(platform: Platform) -> None:
    name = deploy(platform, LAST_WORDS, MemorySize=1769, Timeout=30)
    clients: queue.SimpleQueue[object] = queue.SimpleQueue()
    for _ in range(8):
        clients.put(platform.client())

    def missing(number: int) -> list[str]:
        client = clients.get()
        try:
            has_child = number % 10 == 0
            outcome = call(platform, name, {"id": number, "child": has_child}, client=client)
        finally:
            clients.put(client)
        wanted = [f"\nline-{number}-end\nEND RequestId: {outcome.request_id}\nREPORT "]
        if has_child:
            wanted.append(f"\nchild-{number}-end\n")
        return [f"{number}: {text!r}" for text in wanted if text not in outcome.tail]

    with ThreadPoolExecutor(8) as threads:
        lost = [text for texts in threads.map(missing, range(1000)) for text in texts]

    assert lost == []
    messages = log_messages(platform, name)
    assert sum(message.startswith("line-") for message in messages) == 1000
    assert sum(message.startswith("child-") for message in messages) == 100
