"""Every knob of `.env.example` reaches the process that it is for, and every process's settings have their knob."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from pydantic import AliasChoices
from pydantic_settings import BaseSettings

from controller.settings import ControllerSettings
from deploy import installation
from worker.settings import WorkerSettings

#: What compose and `make up` read themselves.
OF_THE_INSTALLATION = {
    "COMPOSE_PROJECT_NAME",
    "LAMBDOCK_PORT",
    "LAMBDOCK_REDIS_PASSWORD",
    "LAMBDOCK_BASE",
    "LAMBDOCK_REDIS_BASE",
    "LAMBDOCK_UP_RUNTIMES",
    "LAMBDOCK_AWS_ACCESS_KEY_ID",
    "LAMBDOCK_AWS_SECRET_ACCESS_KEY",
}
#: What boto3 reads, in every process that has the blob store.
OF_BOTO3 = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
#: What is no choice inside compose: the images or docker-compose.yml give it one value, or it is for `lambdock serve`.
FIXED = {
    "LAMBDOCK_REDIS_URL",
    "LAMBDOCK_STATE_DIR",
    "LAMBDOCK_LISTEN",
    "LAMBDOCK_LISTEN_FD",
    "LAMBDOCK_PUBLISHED_ON_LOOPBACK",
    "LAMBDOCK_TRANSFER_LISTEN",
    "LAMBDOCK_TRANSFER_HOST",
    "LAMBDOCK_WORKER_ID",
    "LAMBDOCK_HOST_STATE_DIR",
}
PROCESSES: dict[str, type[BaseSettings]] = {
    "controller": ControllerSettings,
    "background": ControllerSettings,
    "worker": WorkerSettings,
}


def variables(settings: type[BaseSettings]) -> set[str]:
    found = set()
    for name, field in settings.model_fields.items():
        alias = field.validation_alias
        found.add(str(alias.choices[0]) if isinstance(alias, AliasChoices) else f"LAMBDOCK_{name.upper()}")
    return found


def knobs() -> dict[str, str]:
    """The example's variables with their values; commented ones too."""
    return dict(re.findall(r"^#?([A-Z][A-Z0-9_]+)=(.*)$", installation.EXAMPLE.read_text(), re.MULTILINE))


def services() -> dict[str, Any]:
    return dict(yaml.safe_load((installation.ROOT / "docker-compose.yml").read_text())["services"])


def default(value: str) -> str:
    """What compose makes of `${NAME:-default}` when nothing is set."""
    return re.sub(r"\$\{[A-Z0-9_]+:-([^}]*)\}", r"\1", value)


@pytest.mark.parametrize("process", PROCESSES)
def test_a_process_knows_every_variable_that_compose_gives_it(process: str) -> None:
    assert set(services()[process]["environment"]) - OF_BOTO3 <= variables(PROCESSES[process])


@pytest.mark.parametrize("process", PROCESSES)
def test_every_setting_of_a_process_is_a_knob_or_fixed(process: str) -> None:
    assert variables(PROCESSES[process]) - FIXED <= set(knobs())


@pytest.mark.parametrize("process", PROCESSES)
def test_every_knob_of_a_process_is_passed_on_to_it(process: str) -> None:
    given = services()[process]["environment"]

    for name in (variables(PROCESSES[process]) - FIXED) & set(knobs()):
        assert given[name].startswith(f"${{{name}:-"), f"{process} does not get {name} of .env"


def test_every_knob_has_a_reader() -> None:
    read = OF_THE_INSTALLATION.union(*map(variables, PROCESSES.values()))

    assert set(knobs()) <= read


@pytest.mark.parametrize("process", PROCESSES)
def test_the_example_shows_the_values_that_hold_when_nothing_is_set(process: str) -> None:
    given = services()[process]["environment"]

    for name, shown in knobs().items():
        if name in given and name not in OF_THE_INSTALLATION:
            assert default(given[name]) == shown


@pytest.mark.parametrize("process", PROCESSES)
def test_a_process_starts_with_the_defaults_of_compose(process: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in services()[process]["environment"].items():
        monkeypatch.setenv(name, default(value) if "REDIS" not in name else "redis://:secret@redis:6379/0")

    settings = PROCESSES[process]()

    assert settings.model_dump()["cell"] == "lambdock"
