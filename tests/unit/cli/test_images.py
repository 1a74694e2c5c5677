from __future__ import annotations

import gzip
import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.app import app
from cli.images.source import repository_of
from tests.docker_archives import classic_members, config_of, layer, sha256, tar_of
from tests.fakes.api_server import ApiServer

runner = CliRunner()
LAYERS = [layer(app="hello")]
ARCHIVE = tar_of(classic_members(LAYERS, tags=None))
IMAGE_ID = f"sha256:{sha256(config_of(LAYERS))}"
#: Stands for the engine's command line: knows one image, and writes down what it was asked.
DOCKER = """#!/bin/sh
echo "$@" >> {log}
case "$*" in
"image inspect -- host:5000/team/app:1" | "image inspect -- {short}")
    echo '[{{"Id": "{image_id}", "Size": 5, "RepoTags": ["host:5000/team/app:1"]}}]' ;;
"save {image_id}") {save} ;;
*) echo "Error: No such image: $4" >&2; exit 1 ;;
esac
"""


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    with ApiServer().running() as running:
        monkeypatch.setenv("LAMBDOCK_ENDPOINT", running.url)
        yield running


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with the calls of the engine's command line, one a line."""
    (tmp_path / "image.tar").write_bytes(ARCHIVE)
    _install(tmp_path, f"cat {tmp_path / 'image.tar'}")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return tmp_path / "asked"


def _install(directory: Path, save: str) -> None:
    program = directory / "bin/docker"
    program.parent.mkdir(exist_ok=True)
    text = DOCKER.format(log=directory / "asked", image_id=IMAGE_ID, short=IMAGE_ID[7:19], save=save)
    program.write_text(text)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


def run(*arguments: str) -> Any:
    return runner.invoke(app, list(arguments))


def saves(asked: Path) -> int:
    return sum(line.startswith("save ") for line in asked.read_text().splitlines())


@pytest.mark.parametrize("image", ["host:5000/team/app:1", IMAGE_ID[7:19]])
def test_an_image_of_the_engine_is_pushed_by_its_id(api: ApiServer, asked: Path, image: str) -> None:
    result = run("push", image)

    assert result.exit_code == 0, result.output
    uri = result.stdout.strip()
    assert uri.startswith("pushed.lambdock/team/app@sha256:")
    assert "aws lambda create-function --package-type Image" in result.stderr
    assert [image.uri for image in api.run(api.core.images.list("000000000000", after=("", ""), limit=9))] == [uri]


def test_what_is_there_is_not_sent_again(api: ApiServer, asked: Path) -> None:
    first = run("push", "host:5000/team/app:1").stdout
    assert run("push", "host:5000/team/app:1").stdout == first
    assert saves(asked) == 1
    # Another name is another image to the account.
    assert "pushed.lambdock/other@" in run("push", "host:5000/team/app:1", "--name", "other").stdout
    assert saves(asked) == 2


def test_a_file_is_pushed_too(api: ApiServer, tmp_path: Path) -> None:
    path = tmp_path / "saved.tar"
    path.write_bytes(tar_of(classic_members(LAYERS, tags=("app:1",))))
    result = run("push", str(path), "--json")
    answer = json.loads(result.stdout)
    assert (answer["Name"], answer["ImageId"]) == ("app", IMAGE_ID)
    path.write_bytes(gzip.compress(ARCHIVE))
    result = run("push", str(path))
    assert (result.exit_code, "gunzip" in result.stderr) == (2, True)
    assert run("push", str(tmp_path / "none.tar")).exit_code == 2


def test_what_goes_wrong_is_told(api: ApiServer, asked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run("push", "none")
    assert (result.exit_code, "the local engine has no image none" in result.stderr) == (1, True)

    _install(tmp_path, f"head -c 3000 {tmp_path / 'image.tar'}; echo engine ran out of disk >&2; exit 3")
    result = run("push", "host:5000/team/app:1")
    assert (result.exit_code, "status 3: engine ran out of disk" in result.stderr) == (1, True)
    _install(tmp_path, "echo this is no archive at all")
    result = run("push", "host:5000/team/app:1")
    assert (result.exit_code, "InvalidParameterValueException: Could not take in" in result.stderr) == (1, True)
    assert api.blobs._blobs == {}

    monkeypatch.setenv("PATH", str(tmp_path))
    result = run("push", "app")
    assert (result.exit_code, "lambdock push image.tar" in result.stderr) == (1, True)


def test_images_are_those_of_the_account_that_signs(
    api: ApiServer, asked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "111111111111")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    uri = run("push", "host:5000/team/app:1").stdout.strip()
    listed = run("images")
    assert uri in listed.stdout
    assert [json.loads(line)["ImageUri"] for line in run("images", "--json").stdout.splitlines()] == [uri]

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "222222222222")
    assert "No images yet" in run("images").stderr
    refused = run("images", "--remove", uri)
    assert (refused.exit_code, "ResourceNotFoundException: Image not found" in refused.stderr) == (1, True)

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "111111111111")
    assert run("images", "--remove", uri).stdout == f"Removed {uri}. Functions that use it go on.\n"
    assert run("images", "--json").stdout == ""


@pytest.mark.parametrize(
    ("reference", "repository"),
    [
        ("app", "app"),
        ("app:1", "app"),
        ("team/app@sha256:0", "team/app"),
        ("host:5000/app", "app"),
        ("localhost/team/app:1", "team/app"),
        ("docker.io/library/python:3", "library/python"),
    ],
)
def test_names_lose_registry_and_tag(reference: str, repository: str) -> None:
    assert repository_of(reference) == repository
