"""Makes `docs/generated/states.md` from the table that the worker goes by."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from worker.environments.state import TRANSITIONS, State

PAGE: Final = Path(__file__).resolve().parent.parent / "docs" / "generated" / "states.md"


def states_page() -> str:
    """Return the page, from the table alone."""
    arrows = [f"    {before} --> {after}: {change}" for (before, change), after in TRANSITIONS.items()]
    return "\n".join(
        [
            "# The life of an execution environment",
            "",
            "Made by `make docs` from `worker/environments/state.py`, where each state and change is explained.",
            "",
            "```mermaid",
            "stateDiagram-v2",
            f"    [*] --> {State.STARTING}",
            *arrows,
            f"    {State.DEAD} --> [*]",
            "```",
            "",
        ]
    )
