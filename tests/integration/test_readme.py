"""The README does what it says, against a platform of its own."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.examples import remove_image
from tests.platform_under_test import Platform
from tests.s3_server import S3Server
from tests.walkthrough import follow, missing_lines

ROOT = Path(__file__).resolve().parent.parent.parent
ENDPOINT = "http://127.0.0.1:4566"
S3_ENDPOINT = "http://127.0.0.1:9000"


@pytest.fixture
def s3() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


@pytest.fixture
def platform(s3: S3Server, tmp_path: Path) -> Iterator[Platform]:
    """A platform that knows a store, as the README's reader has configured it at that point."""
    running = Platform(
        tmp_path / "platform",
        LAMBDOCK_S3_ENDPOINT=s3.endpoint,
        LAMBDOCK_S3_ACCESS_KEY="key",
        LAMBDOCK_S3_SECRET_KEY="secret",
    )
    running.start()
    yield running
    running.stop()


@pytest.mark.timeout(300)
def test_the_readme_can_be_followed_word_by_word(platform: Platform, s3: S3Server, tmp_path: Path) -> None:
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    image = f"lambdock-test-{uuid.uuid4().hex[:12]}"
    try:
        follow(
            ROOT / "README.md",
            {
                ENDPOINT: platform.endpoint,
                S3_ENDPOINT: s3.endpoint,
                "--tag greet-image": f"--tag {image}",
                "push greet-image": f"push {image}",
            },
            # The reader's platform is at the default endpoint, which `lambdock` needs no telling.
            {"LAMBDOCK_ENDPOINT": platform.endpoint},
            tmp_path,
        )
    finally:
        remove_image(image)


def test_a_promise_that_is_not_kept_is_noticed() -> None:
    assert missing_lines("one …\nthree", "one 1\ntwo\nthree") == []
    assert missing_lines("three\none …", "one 1\ntwo\nthree") == ["one …"]
