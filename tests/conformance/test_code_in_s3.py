"""A platform whose operator has named a bucket's server: functions and layers whose code lies there, invoked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.conformance.test_aws_cli import aws
from tests.fakes.api_server import zip_of
from tests.platform_under_test import ROLE, RUNTIME, Platform
from tests.s3_server import S3Server

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with S3Server() as running:
        yield running


@pytest.fixture(scope="module")
def beside(s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform that knows the bucket's server."""
    running = Platform(
        Path(tmp_path_factory.mktemp("platform")),
        LAMBDOCK_S3_ENDPOINT=s3.endpoint,
        LAMBDOCK_S3_ACCESS_KEY="key",
        LAMBDOCK_S3_SECRET_KEY="secret",
    )
    running.start()
    yield running
    running.stop()


def said(client: Any, name: str) -> Any:
    return json.loads(client.invoke(FunctionName=name)["Payload"].read())


def source(text: str) -> bytes:
    return zip_of(f"def handler(event, context):\n    return {text!r}\n")


def test_functions_run_code_from_a_bucket_and_from_its_versions(beside: Platform, s3: S3Server) -> None:
    client, bucket = beside.client(), s3.make_bucket()
    s3.client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    old, _ = [
        s3.client.put_object(Bucket=bucket, Key="code.zip", Body=source(text))["VersionId"] for text in ("old", "new")
    ]
    at = {"S3Bucket": bucket, "S3Key": "code.zip"}

    client.create_function(FunctionName="s3", Runtime=RUNTIME, Role=ROLE, Handler="app.handler", Code=at)
    client.get_waiter("function_active_v2").wait(FunctionName="s3", WaiterConfig={"Delay": 1})
    assert said(client, "s3") == "new"

    client.update_function_code(FunctionName="s3", **at, S3ObjectVersion=old)
    client.get_waiter("function_updated_v2").wait(FunctionName="s3", WaiterConfig={"Delay": 1})
    assert said(client, "s3") == "old"

    with pytest.raises(ClientError, match="S3 Error Code: NoSuchKey"):
        client.update_function_code(FunctionName="s3", S3Bucket=bucket, S3Key="absent.zip")
    assert said(client, "s3") == "old"
    client.delete_function(FunctionName="s3")
    assert list((beside.state_dir / "spool").iterdir()) == []


def test_the_aws_cli_names_objects_and_their_versions(beside: Platform, s3: S3Server) -> None:
    bucket = s3.make_bucket()
    s3.client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    first, second = [
        s3.client.put_object(Bucket=bucket, Key="code.zip", Body=source(text))["VersionId"] for text in ("1", "2")
    ]
    made = aws(
        beside, "create-function", "--function-name", "cli", "--runtime", RUNTIME, "--role", ROLE,
        "--handler", "app.handler", "--code", f"S3Bucket={bucket},S3Key=code.zip,S3ObjectVersion={first}",
    )  # fmt: skip
    assert made["State"] == "Pending"
    assert aws(beside, "wait", "function-active-v2", "--function-name", "cli") is None
    assert said(beside.client(), "cli") == "1"

    at = ["--function-name", "cli", "--s3-bucket", bucket, "--s3-key"]
    aws(beside, "update-function-code", *at, "code.zip", "--s3-object-version", second)
    assert aws(beside, "wait", "function-updated-v2", "--function-name", "cli") is None
    assert said(beside.client(), "cli") == "2"

    missing = aws(beside, "update-function-code", *at, "absent.zip")
    assert "(InvalidParameterValueException)" in missing
    assert "Error occurred while GetObject. S3 Error Code: NoSuchKey." in missing
    beside.client().delete_function(FunctionName="cli")
