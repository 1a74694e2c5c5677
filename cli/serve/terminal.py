"""What `lambdock serve` shows: a line per part, warnings, a panel when all is ready; or everything as JSON lines."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, assert_never

from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from cli import output
from cli.serve.events import (
    AllReady,
    GaveUp,
    Listener,
    PartDied,
    PartReady,
    PartStopped,
    PartStuck,
    Stopping,
    SupervisorEvent,
    status_text,
)
from cli.serve.lines import BoundedLog
from cli.settings import DEFAULT_ENDPOINT

_STYLES = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "bold red"}
_NAME_WIDTH = 13
#: `<pid>:<role> <date and time> <level> <text>`, as Redis writes.
_REDIS_LINE = re.compile(rb"^\d+:[A-Z] (.{20,30}?) ([.\-*#]) (.*)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """A line of a part as far as it is understood; `fields` has what else the record says."""

    level: str
    message: str
    fields: Mapping[str, Any]


def parse_line(part: str, line: bytes) -> LogLine:
    """Return the level and text of a line. What no logger has written (a traceback) counts as a warning."""
    if part == "redis" and (match := _REDIS_LINE.match(line)):
        level = "WARNING" if match[2] == b"#" else "INFO"
        return LogLine(level=level, message=match[3].decode("utf-8", "backslashreplace"), fields={})
    if line.startswith(b"{"):
        with suppress(ValueError):
            record = json.loads(line)
            level = str(record.pop("level", record.pop("levelname", "INFO"))).upper()
            message = str(record.pop("message", record.pop("msg", record.pop("event", ""))))
            return LogLine(level=level, message=message, fields=record)
    return LogLine(level="WARNING", message=line.decode("utf-8", "backslashreplace"), fields={})


class PrettyTerminal:
    """For people. Of the parts' logs only warnings are shown, unless `is_verbose`."""

    def __init__(self, console: Console, *, endpoint: str, log_dir: Path, is_verbose: bool) -> None:
        self._console = console
        self._endpoint = endpoint
        self._log_dir = log_dir
        self._is_verbose = is_verbose
        self._steady: set[str] = set()

    def event(self, event: SupervisorEvent) -> None:
        """Print what a person should know."""
        match event:
            case PartReady():
                self._steady.add(event.part)
                self._say(
                    "✓", "green", event.part, f"ready{' again' if event.is_restart else ''} ({event.took_s:.1f} s)"
                )
            case PartDied():
                self._steady.discard(event.part)
                again = f", for the {event.deaths}. time in a row: it keeps dying" if event.is_crash_looping else ""
                text = f"{status_text(event.status)}{again}; starts again in {event.restart_in_s:.1f} s"
                self._say("✗", "red" if event.is_crash_looping else "yellow", event.part, text)
                self._last_words(event.part, event.last_lines if event.is_crash_looping else event.last_lines[-3:])
            case PartStuck():
                self._say("✗", "red", event.part, f"not ready after {event.budget_s:.0f} s; it is started again")
            case GaveUp():
                self._say("✗", "bold red", event.part, f"did not start in {event.deaths} attempts; giving up")
                self._last_words(event.part, event.last_lines)
            case AllReady():
                self._console.print(self._welcome(event.took_s))
            case Stopping():
                self._steady.clear()
                self._say("…", "dim", "serve", "stopping; Ctrl-C again stops at once")
            case PartStopped():
                self._steady.discard(event.part)
                how = "killed" if event.is_killed else "stopped"
                self._say("✓", "yellow" if event.is_killed else "dim", event.part, f"{how} ({event.took_s:.1f} s)")
            case _:
                assert_never(event)

    def line(self, part: str, line: bytes) -> None:
        """Print a part's warnings; everything when verbose."""
        record = parse_line(part, line)
        is_shown = record.level in _STYLES and (part != "redis" or part in self._steady)
        # Redis warns of its own start and stop; what goes wrong there is told when it dies.
        if not self._is_verbose and not is_shown:
            return
        self._say(" ", _STYLES.get(record.level, "dim"), part, record.message + _details(record.fields))

    def _last_words(self, part: str, lines: tuple[str, ...]) -> None:
        if not self._is_verbose:
            for line in lines:
                record = parse_line(part, line.encode())
                self._say(" ", "dim", part, record.message + _details(record.fields))
        self._say(" ", "dim", part, f"log: {self._log_dir / f'{part}.log'}")

    def _say(self, mark: str, style: str, part: str, text: str) -> None:
        line = Text.assemble((f"{mark} ", style), (f"{part:<{_NAME_WIDTH}}", "bold" if mark.strip() else "dim"))
        line.append(output.printable(text), style=style if mark != "✓" else "")
        self._console.print(line)

    def _welcome(self, took_s: float) -> Panel | Text:
        is_usual = self._endpoint == DEFAULT_ENDPOINT
        commands = (
            *(() if is_usual else (f"export LAMBDOCK_ENDPOINT={self._endpoint}",)),
            "lambdock deploy examples/hello",
            """lambdock invoke hello --payload '{"name": "Ada"}'""",
            "lambdock logs hello --follow",
        )
        body = Text.assemble(
            ("Lambda API  ", "dim"), (self._endpoint, "bold green"), f"   ready in {took_s:.1f} s\n",
            ("Logs        ", "dim"), str(self._log_dir), "\n\nTry, in another terminal:\n",
            *(f"  {command}\n" for command in commands),
            f"  aws lambda list-functions --endpoint-url {self._endpoint}",
        )  # fmt: skip
        return Panel(body, title="Lambdock", border_style="green", expand=False) if self._console.is_terminal else body


class JsonTerminal:
    """For programs: each event and each line of each part is one JSON object on standard output."""

    def __init__(self, write: Callable[[object], None], *, endpoint: str) -> None:
        self._write = write
        self._endpoint = endpoint

    def event(self, event: SupervisorEvent) -> None:
        """Write the event under its class's name."""
        level = (
            "ERROR" if isinstance(event, GaveUp) else "WARNING" if isinstance(event, PartDied | PartStuck) else "INFO"
        )
        where = {"endpoint": self._endpoint} if isinstance(event, AllReady) else {}
        self._write({"process": "serve", "level": level, "message": type(event).__name__, **asdict(event), **where})

    def line(self, part: str, line: bytes) -> None:
        """Write the line's own record, with the part's name."""
        record = parse_line(part, line)
        self._write({"process": part, "level": record.level, "message": record.message, **record.fields})


class LoggingListener:
    """Keeps every line of a part in `<log_dir>/<part>.log`, and passes everything on."""

    def __init__(self, log_dir: Path, shown: Listener) -> None:
        self._log_dir = log_dir
        self._shown = shown
        self._logs: dict[str, BoundedLog] = {}

    def event(self, event: SupervisorEvent) -> None:
        """Pass on."""
        self._shown.event(event)

    def line(self, part: str, line: bytes) -> None:
        """Keep and pass on. A full disk costs lines of the log, not the platform."""
        with suppress(OSError):
            if part not in self._logs:
                self._logs[part] = BoundedLog(self._log_dir / f"{part}.log")
            self._logs[part].write(line)
        self._shown.line(part, line)

    def close(self) -> None:
        """Close the files."""
        for log in self._logs.values():
            log.close()


def _details(fields: Mapping[str, Any]) -> str:
    hidden = {"timestamp", "time", "ts", "logger", "process", "pid", "name"}
    shown = "".join(f" {key}={value}" for key, value in fields.items() if key not in hidden and "\n" not in str(value))
    return shown + "".join(f"\n{value}" for value in fields.values() if "\n" in str(value))
