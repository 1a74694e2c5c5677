from __future__ import annotations

import pytest

from tests.fakes.played_runtime import CATALOG, function_image, launch_spec
from worker.environments.process import archive_process, image_process

IMAGE = function_image(
    entry_point=("/entry", "-v"),
    command=("app.handler", "more"),
    working_directory="/srv",
    environment={"FROM_IMAGE": "1", "LANG": "image", "AWS_REGION": "image", "AWS_EXECUTION_ENV": "theirs"},
)


def image_launch(**changes: object):
    return launch_spec(runtime="", code_sha256="", handler="", image_uri="app@sha256:0", **changes)


@pytest.mark.parametrize(
    ("config", "argv"),
    [
        ({}, ("/entry", "-v", "app.handler", "more")),
        ({"command": ["other.handler"]}, ("/entry", "-v", "other.handler")),
        ({"entry_point": ["/mine"]}, ("/mine", "app.handler", "more")),
        ({"entry_point": ["/mine"], "command": ["x"]}, ("/mine", "x")),
    ],
)
def test_entry_point_and_command_are_replaced_each_by_itself(config: dict, argv: tuple[str, ...]) -> None:
    assert image_process(image_launch(**config), IMAGE, "stream").argv == argv


def test_the_directory_is_the_function_s_else_the_image_s_else_the_root() -> None:
    assert image_process(image_launch(working_directory="/w"), IMAGE, "stream").cwd == "/w"
    assert image_process(image_launch(), IMAGE, "stream").cwd == "/srv"
    assert image_process(image_launch(), function_image(), "stream").cwd == "/"


def test_an_image_s_variables_are_under_the_function_s_and_those_under_lambda_s() -> None:
    launch = image_launch(environment={"LANG": "function", "MINE": "1"}, region="eu-west-1")
    env = image_process(launch, IMAGE, "stream").env

    assert (env["FROM_IMAGE"], env["LANG"], env["MINE"]) == ("1", "function", "1")
    assert (env["AWS_REGION"], env["AWS_LAMBDA_RUNTIME_API"]) == ("eu-west-1", "127.0.0.1:9001")
    assert (env["LAMBDA_TASK_ROOT"], env["AWS_EXECUTION_ENV"]) == ("/var/task", "theirs")


def test_the_handler_is_the_first_word_of_the_command() -> None:
    assert image_process(image_launch(), IMAGE, "stream").env["_HANDLER"] == "app.handler"
    assert image_process(image_launch(command=["x.y"]), IMAGE, "stream").env["_HANDLER"] == "x.y"
    assert image_process(image_launch(), function_image(), "stream").env["_HANDLER"] == ""
    assert "AWS_EXECUTION_ENV" not in image_process(image_launch(), function_image(), "stream").env


def test_an_archive_s_process_is_its_runtime_s() -> None:
    made = archive_process(launch_spec(), CATALOG["python3.11"], "stream")

    assert (made.argv, made.cwd) == (CATALOG["python3.11"].bootstrap_argv, "/var/task")
    assert made.env["AWS_EXECUTION_ENV"] == "AWS_Lambda_python3.11"
    assert "/opt/bin" in made.env["PATH"].split(":")
    assert "/opt/lib" in made.env["LD_LIBRARY_PATH"].split(":")
