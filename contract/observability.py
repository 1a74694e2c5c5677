"""How all processes log: JSON lines on stderr, with the names of their fields."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import Any, Final

import orjson

#: What every LogRecord has; anything else in it came from `extra`.
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and the fields given in `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """Render a record; a value that JSON does not know becomes its `str()`."""
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update({key: value for key, value in vars(record).items() if key not in _STANDARD})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


def configure_logging(level: str) -> None:
    """Send everything of this process's loggers to stderr as JSON. Call once, at the start."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # One line per request is for debugging only.
    for noisy in ("httpx", "httpcore", "rq.worker", "urllib3", "docker", "botocore"):
        logging.getLogger(noisy).setLevel(max(logging.getLogger().level, logging.WARNING))
