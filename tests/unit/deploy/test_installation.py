"""Settings of `make up`."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest

from deploy import installation
from deploy.console import GivingUpError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LAMBDOCK_ENV_FILE", str(tmp_path / ".env"))
    for name in (
        "COMPOSE_PROJECT_NAME",
        "LAMBDOCK_CELL",
        "LAMBDOCK_PORT",
        "LAMBDOCK_VERSION",
        "LAMBDOCK_REDIS_PASSWORD",
    ):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_defaults_need_no_env_file() -> None:
    here = installation.read()

    assert (here.project, here.cell, here.port) == ("lambdock", "lambdock", 4566)
    assert here.endpoint == "http://127.0.0.1:4566"


def test_the_environment_wins_over_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / ".env").write_text("LAMBDOCK_PORT=5000\nLAMBDOCK_CELL=home\n#LAMBDOCK_VERSION=9\n")
    monkeypatch.setenv("LAMBDOCK_PORT", "5001")

    here = installation.read()

    assert (here.port, here.cell, here.version) == (5001, "home", installation.VERSION)


@pytest.mark.parametrize(
    ("name", "value"), [("LAMBDOCK_PORT", "http"), ("LAMBDOCK_PORT", "70000"), ("LAMBDOCK_CELL", "A b")]
)
def test_a_bad_setting_is_named_with_its_value(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(GivingUpError, match=f"{name} is '{value}'"):
        installation.read()


def test_the_env_file_is_made_once_with_a_private_password(folder: Path) -> None:
    assert installation.make_env_file() is True
    made = (folder / ".env").read_text()
    assert installation.make_env_file() is False

    assert (folder / ".env").read_text() == made
    assert stat.S_IMODE((folder / ".env").stat().st_mode) == 0o600
    assert len(installation.read().environment["LAMBDOCK_REDIS_PASSWORD"]) == 48


def test_a_password_is_added_to_an_env_file_that_has_none(folder: Path) -> None:
    (folder / ".env").write_text("LAMBDOCK_PORT=5000\n")

    assert installation.make_env_file() is True

    assert (folder / ".env").read_text().startswith("LAMBDOCK_PORT=5000\nLAMBDOCK_REDIS_PASSWORD=")


def test_every_variable_of_the_compose_file_is_in_the_example() -> None:
    compose = (installation.ROOT / "docker-compose.yml").read_text()
    example = installation.EXAMPLE.read_text()

    used = set(re.findall(r"\$\{([A-Z0-9_]+)", compose)) - {"LAMBDOCK_VERSION"}

    assert used
    assert {name for name in used if not re.search(rf"^#?{name}=", example, re.MULTILINE)} == set()


def test_runtimes_with_an_image_of_the_operators_are_not_made_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAMBDOCK_UP_RUNTIMES", "python3.11 python3.12")
    monkeypatch.setenv("LAMBDOCK_RUNTIME_IMAGES", '{"python3.12": "mine:1"}')

    assert installation.read().runtimes == ("python3.11",)


def test_runtime_images_that_are_no_json_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAMBDOCK_RUNTIME_IMAGES", "python3.12=mine:1")

    with pytest.raises(GivingUpError, match="LAMBDOCK_RUNTIME_IMAGES is no JSON"):
        installation.read()
