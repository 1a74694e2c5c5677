"""`make docs`: makes the generated pages; then every link and `make` target that documents name must exist."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from tests import settings_page, states_page

ROOT = Path(__file__).resolve().parent.parent
_LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
_TARGET = re.compile(r"`(?:sudo )?make ([a-z]+)`")


def problems() -> Iterator[str]:
    """Name what is wrong, one line each."""
    targets = set(re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]
    for document in sorted(documents):
        text = document.read_text(encoding="utf-8")
        name = document.relative_to(ROOT)
        for link in _LINK.findall(text):
            if "://" not in link and not link.startswith("mailto:") and not (document.parent / link).exists():
                yield f"{name} links to {link}, which is not there"
        for target in _TARGET.findall(text):
            if target not in targets:
                yield f"{name} tells of 'make {target}', which the Makefile does not have"


if __name__ == "__main__":
    settings_page.PAGE.parent.mkdir(parents=True, exist_ok=True)
    settings_page.PAGE.write_text(settings_page.settings_page(), encoding="utf-8")
    states_page.PAGE.write_text(states_page.states_page(), encoding="utf-8")
    found = list(problems())
    sys.stdout.write("".join(f"{line}\n" for line in found) or "documents: made; every link and target is there\n")
    sys.exit(1 if found else 0)
