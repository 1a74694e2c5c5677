from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.app import app
from cli.deploy.manifest import Manifest, parse_environment, read_manifest
from cli.errors import UsageError
from tests.unit.cli.conftest import Answer, FakePlatform, Request

runner = CliRunner()
ARN = "arn:aws:lambda:us-east-1:000000000000:function:hello"


class OneFunction:
    """The five operations that a deployment uses, for one function."""

    def __init__(self) -> None:
        self.configuration: dict[str, Any] | None = None

    def __call__(self, request: Request) -> Answer:
        body = json.loads(request.body) if request.body else {}
        if request.method == "POST":
            package = base64.b64decode(body.pop("Code")["ZipFile"])
            self.configuration = {**body, "FunctionArn": ARN, "CodeSha256": _digest(package)}
        elif self.configuration is None:
            return Answer(404, {"Message": "none"}, {"x-amzn-errortype": "ResourceNotFoundException"})
        elif request.method == "PUT" and request.path.endswith("/code"):
            self.configuration["CodeSha256"] = _digest(base64.b64decode(body["ZipFile"]))
        elif request.method == "PUT":
            self.configuration.update(body)
        state = {**(self.configuration or {}), "State": "Active", "LastUpdateStatus": "Successful"}
        is_whole = request.method == "GET" and not request.path.endswith("/configuration")
        return Answer(201 if request.method == "POST" else 200, {"Configuration": state} if is_whole else state)


@pytest.fixture
def hello(tmp_path: Path) -> Path:
    folder = tmp_path / "hello"
    folder.mkdir()
    (folder / "app.py").write_text("def handler(event, context): ...\n")
    (folder / "lambdock.toml").write_text(
        'runtime = "python3.11"\nhandler = "app.handler"\n[env]\nAA = "1"\nBB = "2"\n'
    )
    return folder


def test_deploy_creates_then_changes_nothing_then_updates(platform: FakePlatform, hello: Path) -> None:
    platform.answer = OneFunction()

    first = runner.invoke(app, ["deploy", str(hello), "--env", "BB=3", "--memory", "256"])
    writes_of_first = platform.asked("POST") + platform.asked("PUT")
    second = runner.invoke(app, ["deploy", str(hello), "--env", "BB=3", "--memory", "256", "--json"])
    writes_of_second = platform.asked("POST") + platform.asked("PUT")
    (hello / "app.py").write_text("changed = True\n")
    third = runner.invoke(app, ["deploy", str(hello), "--memory", "512"])

    assert first.exit_code == 0, first.output
    assert first.stdout == ARN + "\n"
    assert "lambdock invoke hello" in first.stderr
    created = json.loads(next(request.body for request in platform.requests if request.method == "POST"))
    assert created["Environment"] == {"Variables": {"AA": "1", "BB": "3"}}
    assert created["MemorySize"] == 256
    assert json.loads(second.stdout)["outcome"] == "unchanged"
    assert writes_of_second == writes_of_first
    assert "Updated" in third.stderr
    assert [path.rpartition("/")[2] for path in platform.asked("PUT")] == ["code", "configuration"]


def test_a_new_function_without_a_runtime_is_wrong_usage(platform: FakePlatform, hello: Path) -> None:
    platform.answer = OneFunction()
    (hello / "lambdock.toml").unlink()

    result = runner.invoke(app, ["deploy", str(hello)])

    assert result.exit_code == 2
    assert "--runtime" in result.stderr


def test_what_aws_refuses_is_told_with_code_and_message(platform: FakePlatform, hello: Path) -> None:
    refusal = Answer(400, {"message": "Bad runtime"}, {"x-amzn-errortype": "InvalidParameterValueException"})
    unknown = Answer(404, {"Message": "none"}, {"x-amzn-errortype": "ResourceNotFoundException"})
    platform.answer = lambda request: refusal if request.method == "POST" else unknown

    result = runner.invoke(app, ["deploy", str(hello)])

    assert result.exit_code == 1
    assert "InvalidParameterValueException: Bad runtime" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(["--env", "oops"], "'oops'"), (["--arch", "mips"], "'mips'"), (["--memory", "1"], "128")],
)
def test_bad_options_are_wrong_usage(hello: Path, arguments: list[str], named: str) -> None:
    result = runner.invoke(app, ["deploy", str(hello), *arguments])

    assert result.exit_code == 2
    assert named in result.stderr


def test_a_missing_folder_is_wrong_usage(tmp_path: Path) -> None:
    result = runner.invoke(app, ["deploy", str(tmp_path / "none")])

    assert result.exit_code == 2
    assert "there is no folder" in result.stderr


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('layers = "one"', "layers"),
        ("layers = [1]", "layers"),
        ('command = "a b"', "command"),
        ("image = 1", "image"),
        ("memori = 1", "memori"),
        ('memory = "1"', "memory"),
        ("env = 3", "env"),
        ("[env]\nAA = 1", "env.AA"),
        ("=", ""),
    ],
)
def test_a_bad_manifest_is_told_by_file_and_key(tmp_path: Path, text: str, named: str) -> None:
    (tmp_path / "lambdock.toml").write_text(text)

    with pytest.raises(UsageError, match=r"lambdock\.toml") as error:
        read_manifest(tmp_path)

    assert named in error.value.message


def test_options_win_over_the_manifest_and_environments_merge() -> None:
    merged = Manifest(name="a", env={"AA": "1"}).over(Manifest(name="b", timeout=3, env={"AA": "2", "BB": "2"}))

    assert merged == Manifest(name="a", timeout=3, env={"AA": "1", "BB": "2"})


def test_environment_values_may_hold_equals_signs_and_be_empty() -> None:
    assert parse_environment(["AA=b=c", "BB="]) == {"AA": "b=c", "BB": ""}


def _digest(package: bytes) -> str:
    return base64.b64encode(hashlib.sha256(package).digest()).decode()
