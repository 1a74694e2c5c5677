"""The `aws` command line, unmodified, against the platform."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.conformance.calls import unique
from tests.platform_under_test import ROLE, RUNTIME, Platform, package

AWS = Path(sys.executable).with_name("aws")


def aws(platform: Platform, *words: str) -> Any:
    """Run `aws lambda …`; return what it prints, as JSON where it is."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")} | {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": platform.endpoint,
        "AWS_MAX_ATTEMPTS": "1",
        "HOME": "/nonexistent",
    }
    ended = subprocess.run(
        [str(AWS), "lambda", *words, "--output", "json"], env=environment, capture_output=True, text=True, timeout=60
    )
    if ended.returncode:
        return ended.stderr
    return json.loads(ended.stdout) if ended.stdout.strip() else None


def test_the_aws_cli_creates_waits_invokes_and_deletes(platform: Platform, tmp_path: Path) -> None:
    name, out = f"f-{unique()[:12]}", tmp_path / "out.json"
    (tmp_path / "code.zip").write_bytes(package("def handler(event, context):\n    return {'got': event}\n"))
    (tmp_path / "event.json").write_text('{"é": 1}')

    made = aws(
        platform, "create-function", "--function-name", name, "--runtime", RUNTIME, "--role", ROLE,
        "--handler", "app.handler", "--zip-file", f"fileb://{tmp_path / 'code.zip'}",
    )  # fmt: skip
    assert made["State"] == "Pending"
    assert aws(platform, "wait", "function-active-v2", "--function-name", name) is None
    answer = aws(
        platform, "invoke", "--function-name", name, "--payload", f"fileb://{tmp_path / 'event.json'}",
        "--log-type", "Tail", str(out),
    )  # fmt: skip

    assert json.loads(out.read_text()) == {"got": {"é": 1}}
    assert (answer["StatusCode"], answer["ExecutedVersion"]) == (200, "$LATEST")
    assert "REPORT RequestId: " in base64.b64decode(answer["LogResult"]).decode()
    assert aws(platform, "delete-function", "--function-name", name) in (None, {"StatusCode": 200}, {"StatusCode": 204})
    missing = aws(platform, "invoke", "--function-name", name, str(out))
    assert (
        "(ResourceNotFoundException) when calling the Invoke operation: Function not found: arn:aws:lambda:" in missing
    )


def test_the_aws_cli_shows_a_failure_of_the_function(platform: Platform, echo: str, tmp_path: Path) -> None:
    out = tmp_path / "out.json"

    answer = aws(platform, "invoke", "--function-name", f"{echo}:9", str(out))
    event = aws(platform, "invoke", "--function-name", echo, "--invocation-type", "Event", str(out))

    assert f"function:{echo}:9" in answer
    assert event == {"StatusCode": 202}
    assert out.read_text() == ""
