"""Identity, settings, links and validation: what stands between the outside and the services."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from controller.api.code_links import load_secret
from controller.api.identity import Caller, CallerReader
from controller.api.params import marker, marker_of
from controller.domain.errors import InvalidParameterValueError, ValidationFailedError
from controller.domain.validation import check_environment, check_members
from controller.settings import ControllerSettings

READER = CallerReader(default_account="000000000000", default_region="us-east-1")


def caller(authorization: str = "", query: str = "") -> Caller:
    headers = [(b"authorization", authorization.encode())] if authorization else []
    return READER.read(Request({"type": "http", "headers": headers, "query_string": query.encode()}))


@pytest.mark.parametrize(
    ("key", "account"),
    [("123456789012", "123456789012"), ("AKIAX", "000000000000"), ("1234567890123", "000000000000")],
)
def test_an_access_key_of_twelve_digits_is_the_account(key: str, account: str) -> None:
    header = f"AWS4-HMAC-SHA256 Credential={key}/20260131/eu-west-1/lambda/aws4_request, SignedHeaders=host"

    assert caller(header) == Caller(account=account, region="eu-west-1")


def test_a_presigned_url_names_the_caller_too() -> None:
    query = "X-Amz-Credential=123456789012%2F20260131%2Feu-west-1%2Flambda%2Faws4_request"

    assert caller(query=query) == Caller(account="123456789012", region="eu-west-1")


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer x",
        "AWS4-HMAC-SHA256 Credential=a/b",
        "Credential=a/b/../c/d",
        # Longer than the databases' columns for regions.
        f"Credential=a/20260131/eu-{'west' * 8}-1/lambda/aws4_request",
    ],
)
def test_what_cannot_be_read_counts_as_not_given(header: str) -> None:
    assert caller(header) == Caller(account="000000000000", region="us-east-1")


@pytest.mark.parametrize(
    "text",
    ["[]", '["a", 1, 2]', '["a", "1"]', '["a", true]', '["a", -1]', '["a", 2147483648]', '["a\\u0000", 1]', "[1, 1]"],
)
def test_a_marker_that_nobody_gave_out_is_refused(text: str) -> None:
    raw = base64.urlsafe_b64encode(text.encode()).decode()
    request = Request({"type": "http", "headers": [], "query_string": f"Marker={raw}".encode()})

    with pytest.raises(InvalidParameterValueError, match="Invalid Marker"):
        marker_of(request)


def test_a_marker_is_read_back() -> None:
    request = Request({"type": "http", "headers": [], "query_string": f"Marker={marker('ä', 2**31 - 1)}".encode()})

    assert marker_of(request) == ("ä", 2**31 - 1)


def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **variables: str) -> ControllerSettings:
    monkeypatch.setenv("LAMBDOCK_STATE_DIR", str(tmp_path))
    for name, value in variables.items():
        monkeypatch.setenv(f"LAMBDOCK_{name}", value)
    return ControllerSettings()


def test_defaults_keep_everything_below_the_state_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = settings(monkeypatch, tmp_path, ALLOWED_HOSTS="a.example.org, b.example.org")

    assert made.effective_database_url == f"sqlite+aiosqlite:///{tmp_path}/lambdock.db"
    assert made.effective_blob_url == f"file://{tmp_path}/blobs"
    assert made.allowed_hosts == ("a.example.org", "b.example.org")
    assert made.listen_address == ("127.0.0.1", 4566)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("LISTEN", "0.0.0.0:4566"),
        ("LISTEN", "4566"),
        ("LISTEN", "127.0.0.1:99999"),
        ("BLOB_URL", "ftp://bucket"),
        ("ACCOUNT_CONCURRENCY", "99"),
        ("ALLOWED_HOSTS", "http://a.example.org"),
        ("TRANSFER_LISTEN", "here"),
        ("S3_ENDPOINT", "127.0.0.1:9000"),
        ("S3_ENDPOINT", "http://key:secret@127.0.0.1:9000"),
    ],
)
def test_impossible_settings_refuse_to_start_by_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, value: str
) -> None:
    with pytest.raises(ValueError, match=f"LAMBDOCK_{variable}"):
        settings(monkeypatch, tmp_path, **{variable: value})


def test_half_of_the_credentials_for_s3_names_the_other_half(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="LAMBDOCK_S3_SECRET_KEY") as caught:
        settings(monkeypatch, tmp_path, S3_ACCESS_KEY="visible")
    monkeypatch.delenv("LAMBDOCK_S3_ACCESS_KEY")
    with pytest.raises(ValueError, match="LAMBDOCK_S3_ACCESS_KEY") as also_caught:
        settings(monkeypatch, tmp_path, S3_SECRET_KEY="hidden")
    assert "hidden" not in f"{caught.value}{also_caught.value}"


def test_a_secret_is_not_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = settings(monkeypatch, tmp_path, S3_ACCESS_KEY="key", S3_SECRET_KEY="hidden")
    assert "hidden" not in repr(made)
    assert made.s3_secret_key.get_secret_value() == "hidden"


def test_a_container_published_on_loopback_may_listen_everywhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = settings(monkeypatch, tmp_path, LISTEN="0.0.0.0:4566", PUBLISHED_ON_LOOPBACK="1")

    assert made.listen_address == ("0.0.0.0", 4566)


async def test_processes_that_start_together_share_one_secret(tmp_path: Path) -> None:
    path = tmp_path / "state" / "key"

    made = await asyncio.gather(*(asyncio.to_thread(load_secret, path) for _ in range(8)))

    assert len(set(made)) == 1
    assert len(made[0]) == 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in path.parent.iterdir()] == ["key"]


@pytest.mark.parametrize(
    "request_",
    [
        {"VpcConfig": {"SubnetIds": ["vpc-1"]}},
        {"VpcConfig": {"SecurityGroupIds": ["sg-1"] * 6}},
        {"LoggingConfig": {"LogGroup": "a b"}},
        {"DeadLetterConfig": {"TargetArn": "queue"}},
        {"TracingConfig": {"Mode": "On"}},
        {"FileSystemConfigs": [{"Arn": "x", "LocalMountPath": "/etc"}]},
        {"Tags": {"": "x"}},
        {"Tags": {"k": "v" * 257}},
        {"Role": "arn:aws:iam::1:role/r"},
    ],
)
def test_members_that_violate_the_model_are_refused(request_: dict[str, Any]) -> None:
    with pytest.raises(ValidationFailedError, match=r"^1 validation error detected: Value "):
        check_members(request_)


def test_the_environment_may_have_4096_bytes_and_no_more() -> None:
    check_environment({"AB": "x" * (4096 - len('{"AB":""}'))})

    with pytest.raises(InvalidParameterValueError, match="4KB"):
        check_environment({"AB": "x" * (4097 - len('{"AB":""}'))})
