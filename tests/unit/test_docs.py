"""Documents that can be checked against the code are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import Field
from pydantic_settings import BaseSettings

from tests import docs
from tests.settings_page import PAGE, settings_of, settings_page

ROOT = Path(__file__).resolve().parent.parent.parent
_TEST_NAME = re.compile(r"`(test_\w+)`")
_TEST_FILE = re.compile(r"`(tests/[\w/.]+)`")


def test_the_page_of_settings_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == settings_page(), "run `make docs`"


def test_a_setting_without_a_comment_is_refused() -> None:
    class Undocumented(BaseSettings):
        #: Documented.
        port: int = Field(default=1, ge=1)
        host: str = ""

    settings = settings_of("worker", Undocumented)
    assert next(settings).row() == "| `LAMBDOCK_PORT` | `1` | worker | Documented. At least 1. |\n"
    with pytest.raises(ValueError, match="host has no"):
        next(settings)


def test_links_and_make_targets_of_documents_exist() -> None:
    assert list(docs.problems()) == []


def test_tests_that_documents_name_exist() -> None:
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py"))
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    missing = []
    for document in documents:
        text = document.read_text(encoding="utf-8")
        missing += [f"{document.name}: {name}" for name in _TEST_NAME.findall(text) if f"def {name}(" not in tests]
        missing += [f"{document.name}: {path}" for path in _TEST_FILE.findall(text) if not (ROOT / path).exists()]
    assert missing == []


def test_the_architecture_page_stays_short() -> None:
    assert len((ROOT / "docs/ARCHITECTURE.md").read_text(encoding="utf-8").splitlines()) < 150


def test_decisions_stay_on_one_page_and_are_listed() -> None:
    listed = (ROOT / "docs/adr/README.md").read_text(encoding="utf-8")
    for decision in (ROOT / "docs/adr").glob("0*.md"):
        assert len(decision.read_text(encoding="utf-8").splitlines()) <= 40, decision.name
        assert decision.name in listed
