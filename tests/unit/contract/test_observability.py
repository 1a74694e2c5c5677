from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from contract.observability import JsonFormatter, configure_logging


def rendered(**values: Any) -> dict[str, Any]:
    record = logging.makeLogRecord({"name": "a.b", "levelname": "INFO", "msg": "said %s", "args": ("it",)} | values)
    line: dict[str, Any] = orjson.loads(JsonFormatter().format(record))
    return line


def test_a_record_is_one_object_with_its_extra_fields() -> None:
    line = rendered(request_id="r1", created=0.0)
    assert line == {
        "at": "1970-01-01T00:00:00.000+00:00",
        "level": "INFO",
        "logger": "a.b",
        "message": "said it",
        "request_id": "r1",
    }


def test_a_line_break_in_a_message_stays_within_the_line() -> None:
    record = logging.makeLogRecord({"msg": "a\nb"})
    assert "\n" not in JsonFormatter().format(record)


def test_an_exception_is_told_with_its_traceback() -> None:
    try:
        raise KeyError("x")
    except KeyError:
        line = rendered(exc_info=sys.exc_info())
    assert "KeyError: 'x'" in line["exception"]


def test_a_value_that_json_does_not_know_is_told_as_text() -> None:
    assert rendered(path=Path("/tmp/x"))["path"] == "/tmp/x"


def test_libraries_that_log_each_request_are_quiet_unless_they_warn(monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    level = root.level
    try:
        configure_logging("INFO")
        assert logging.getLogger("httpx").level == logging.WARNING
        assert isinstance(root.handlers[0].formatter, JsonFormatter)
    finally:
        root.setLevel(level)
