"""Code from buckets and container images by the `aws` command line, unmodified."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.calls import unique
from tests.conformance.image_functions import pushed_lookalike
from tests.conformance.test_aws_cli import aws
from tests.platform_under_test import ROLE, RUNTIME, Platform

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

ABSENT = f"pushed.lambdock/absent@sha256:{'0' * 64}"


def invoked(platform: Platform, name: str, folder: Path) -> Any:
    out = folder / "out.json"
    aws(platform, "invoke", "--function-name", name, str(out))
    return json.loads(out.read_text())


def test_the_aws_cli_creates_changes_and_publishes_a_function_of_an_image(platform: Platform, tmp_path: Path) -> None:
    name = f"f-{unique()[:12]}"
    source = "def one(event, context): return 'one'\ndef two(event, context): return 'two'\n"
    with pushed_lookalike(platform, {"app.py": source}) as uri:
        made = aws(
            platform, "create-function", "--function-name", name, "--package-type", "Image", "--role", ROLE,
            "--code", f"ImageUri={uri}", "--image-config", "Command=app.one", "--publish",
        )  # fmt: skip
        assert (made["PackageType"], made["Version"], made["State"]) == ("Image", "1", "Pending")
        assert aws(platform, "wait", "function-active-v2", "--function-name", name) is None
        shown = aws(platform, "get-function", "--function-name", name)
        assert (shown["Code"]["ImageUri"], shown["Code"]["ResolvedImageUri"]) == (uri, uri)
        assert shown["Configuration"]["CodeSha256"] == uri.rpartition(":")[2]
        assert invoked(platform, name, tmp_path) == "one"

        aws(
            platform, "update-function-configuration", "--function-name", name,
            "--image-config", "Command=app.two,WorkingDirectory=/tmp",
        )  # fmt: skip
        assert aws(platform, "wait", "function-updated-v2", "--function-name", name) is None
        # Where the program finds its modules is the directory's matter.
        aws(platform, "update-function-configuration", "--function-name", name, "--image-config", "Command=app.two")
        assert aws(platform, "wait", "function-updated-v2", "--function-name", name) is None
        assert invoked(platform, name, tmp_path) == "two"
        assert aws(platform, "wait", "published-version-active", "--function-name", name, "--qualifier", "1") is None
        assert invoked(platform, f"{name}:1", tmp_path) == "one"

    missing = aws(platform, "update-function-code", "--function-name", name, "--image-uri", ABSENT)
    assert f"Source image {ABSENT} does not exist. Provide a valid source image." in missing
    other_kind = aws(
        platform, "update-function-code", "--function-name", name, "--s3-bucket", "bucket", "--s3-key", "k"
    )
    assert "Please provide ImageUri when updating a function with packageType Image." in other_kind
    assert aws(platform, "delete-function", "--function-name", name) in (None, {"StatusCode": 200}, {"StatusCode": 204})


def test_the_aws_cli_is_told_when_no_buckets_are_served(platform: Platform) -> None:
    refused = aws(
        platform, "create-function", "--function-name", f"f-{unique()[:12]}", "--runtime", RUNTIME, "--role", ROLE,
        "--handler", "app.handler", "--code", "S3Bucket=bucket,S3Key=k",
    )  # fmt: skip
    assert "LAMBDOCK_S3_ENDPOINT" in refused
