"""`lambdock deploy` with layers and container images, against an API that remembers them."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.app import app
from cli.deploy.image import is_local
from cli.deploy.manifest import Manifest, read_manifest
from cli.errors import UsageError
from tests.unit.cli.conftest import Answer, FakePlatform, Request

runner = CliRunner()
ARN = "arn:aws:lambda:us-east-1:000000000000:function:resize"
LAYER = "arn:aws:lambda:us-east-1:000000000000:layer"
TOOLS = f"{LAYER}:tools:3"
IMAGE = "registry.example:5000/resize"
PINNED = f"{IMAGE}@sha256:{'a' * 64}"


class Api:
    """One function and any number of layers; what a registry's tags mean can be changed."""

    def __init__(self) -> None:
        self.configuration: dict[str, Any] | None = None
        self.code: dict[str, str] = {}
        self.layers: dict[str, list[str]] = {}
        self.meaning = {IMAGE: "a" * 64}
        self.fails: dict[str, str] = {}

    def __call__(self, request: Request) -> Answer:
        body = json.loads(request.body) if request.body else {}
        path = request.path.partition("?")[0]
        return self.layer(request.method, path, body) if "/layers/" in path else self.function(request, path, body)

    def layer(self, method: str, path: str, body: dict[str, Any]) -> Answer:
        parts = path.split("/layers/")[1].split("/")
        versions = self.layers.setdefault(parts[0], [])
        if method == "POST":
            versions.append(_digest(base64.b64decode(body["Content"]["ZipFile"])))
            return Answer(201, self.version(parts[0], len(versions)))
        if len(parts) == 3:
            return Answer(200, self.version(parts[0], int(parts[2])))
        return Answer(200, {"LayerVersions": [self.version(parts[0], len(versions))] if versions else []})

    def version(self, name: str, number: int) -> dict[str, Any]:
        content = {"CodeSha256": self.layers[name][number - 1]}
        return {"LayerVersionArn": f"{LAYER}:{name}:{number}", "Version": number, "Content": content}

    def function(self, request: Request, path: str, body: dict[str, Any]) -> Answer:
        if request.method == "POST":
            self.configuration = {"FunctionArn": ARN, **self.stored(body), "PackageType": body["PackageType"]}
        elif self.configuration is None:
            return Answer(404, {"Message": "none"}, {"x-amzn-errortype": "ResourceNotFoundException"})
        elif request.method == "PUT":
            self.configuration |= self.stored({"Code": body} if path.endswith("/code") else body)
        state = {"State": "Active", "LastUpdateStatus": "Successful", **(self.configuration or {}), **self.fails}
        is_whole = request.method == "GET" and not path.endswith("/configuration")
        whole = {"Configuration": state, "Code": self.code}
        return Answer(201 if request.method == "POST" else 200, whole if is_whole else state)

    def stored(self, body: dict[str, Any]) -> dict[str, Any]:
        code = body.pop("Code", {})
        if "ZipFile" in code:
            body["CodeSha256"] = _digest(base64.b64decode(code["ZipFile"]))
        if uri := code.get("ImageUri"):
            digest = uri.partition("@sha256:")[2] or self.meaning[uri]
            self.code = {"ImageUri": uri, "ResolvedImageUri": f"{IMAGE}@sha256:{digest}"}
        if "Layers" in body:
            body["Layers"] = [{"Arn": arn, "CodeSize": 1} for arn in body["Layers"]]
        if "ImageConfig" in body:
            body["ImageConfigResponse"] = {"ImageConfig": body.pop("ImageConfig")}
        return body


@pytest.fixture
def api(platform: FakePlatform) -> Api:
    platform.answer = api = Api()
    return api


@pytest.fixture
def resize(tmp_path: Path) -> Path:
    folder = tmp_path / "resize"
    (folder / "layer/python").mkdir(parents=True)
    (folder / "layer/python/lib.py").write_text("version = 1\n")
    (folder / "app.py").write_text("def handler(event, context): ...\n")
    (folder / "lambdock.toml").write_text(
        f'runtime = "nodejs22.x"\nhandler = "app.handler"\nlayers = ["{TOOLS}", "layer"]\n'
    )
    return folder


def deploy(folder: Path, *options: str) -> dict[str, Any]:
    result = runner.invoke(app, ["deploy", str(folder), "--json", *options])
    assert result.exit_code == 0, result.output
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def refusal(folder: Path, *options: str) -> str:
    result = runner.invoke(app, ["deploy", str(folder), *options])
    assert result.exit_code == 2, result.output
    return result.stderr


def test_a_layer_folder_is_published_once_and_again_only_when_it_changed(
    platform: FakePlatform, api: Api, resize: Path
) -> None:
    first = deploy(resize)
    published = json.loads(next(r.body for r in platform.requests if "/layers/" in r.path and r.method == "POST"))
    platform.requests.clear()
    second = deploy(resize)
    writes_of_second = platform.asked("POST") + platform.asked("PUT")
    (resize / "layer/python/lib.py").write_text("version = 2\n")
    third = deploy(resize)

    assert first["outcome"] == "created"
    assert first["layers"] == [TOOLS, f"{LAYER}:resize-layer:1"]
    assert published["CompatibleRuntimes"] == ["nodejs22.x"]
    assert (second["outcome"], second["layers"], writes_of_second) == ("unchanged", first["layers"], [])
    assert (third["outcome"], third["layers"]) == ("updated", [TOOLS, f"{LAYER}:resize-layer:2"])
    # The layer's folder lies in the function's, and is not packed twice: the code itself did not change.
    assert third["code_sha256"] == first["code_sha256"]
    assert [path.rpartition("/")[2] for path in platform.asked("PUT")] == ["configuration"]


def test_options_replace_the_layers_and_an_empty_list_removes_them(api: Api, resize: Path) -> None:
    deploy(resize)
    assert deploy(resize, "--layer", TOOLS)["layers"] == [TOOLS]

    manifest = resize / "lambdock.toml"
    manifest.write_text('runtime = "nodejs22.x"\nhandler = "app.handler"\n')
    assert deploy(resize)["layers"] == [TOOLS], "what is not said stays"
    manifest.write_text('runtime = "nodejs22.x"\nhandler = "app.handler"\nlayers = []\n')
    assert deploy(resize)["layers"] == []


def test_layer_folders_that_cannot_be_are_refused_before_anything_is_sent(
    platform: FakePlatform, api: Api, resize: Path
) -> None:
    (resize / "la yer").mkdir()
    (resize / "other/layer").mkdir(parents=True)
    (resize / "other/layer/x").write_text("x")

    assert "there is no folder" in refusal(resize, "--layer", str(resize / "none"))
    assert "'resize-la yer'" in refusal(resize, "--layer", str(resize / "la yer"))
    both = refusal(resize, "--layer", str(resize / "layer"), "--layer", str(resize / "other/layer"))
    assert "would both become the layer resize-layer" in both
    assert platform.requests == []


def test_an_image_is_deployed_by_its_uri_with_its_overrides(platform: FakePlatform, api: Api, tmp_path: Path) -> None:
    (tmp_path / "lambdock.toml").write_text(
        f'name = "resize"\nimage = "{PINNED}"\nentry_point = ["/bin/run"]\ncommand = ["a.b"]\n'
        'working_directory = "/srv"\nmemory = 256\n'
    )

    first = deploy(tmp_path)
    created = json.loads(next(request.body for request in platform.requests if request.method == "POST"))
    platform.requests.clear()
    second = deploy(tmp_path)

    assert created["PackageType"] == "Image"
    assert created["Code"] == {"ImageUri": PINNED}
    assert created["ImageConfig"] == {"EntryPoint": ["/bin/run"], "Command": ["a.b"], "WorkingDirectory": "/srv"}
    assert "Runtime" not in created
    assert first["image_uri"] == PINNED
    assert second["outcome"] == "unchanged"
    assert platform.asked("PUT") == []


def test_a_tag_is_resolved_anew_and_counts_as_changed_when_it_moved(api: Api, tmp_path: Path) -> None:
    (tmp_path / "lambdock.toml").write_text(f'name = "resize"\nimage = "{IMAGE}"\n')

    outcomes = [deploy(tmp_path)["outcome"], deploy(tmp_path)["outcome"]]
    api.meaning[IMAGE] = "b" * 64
    outcomes.append(deploy(tmp_path)["outcome"])

    assert outcomes == ["created", "unchanged", "updated"]


def test_a_deployment_that_the_platform_could_not_prepare_tells_the_reason_and_is_tried_again(
    platform: FakePlatform, api: Api, tmp_path: Path
) -> None:
    (tmp_path / "lambdock.toml").write_text(f'name = "resize"\nimage = "{PINNED}"\n')
    why = {"Code": "ImageAccessDenied", "": "no such image"}
    api.fails = {
        **{"State": "Failed", "LastUpdateStatus": "Failed"},
        **{f"{status}Reason{key}": value for status in ("State", "LastUpdateStatus") for key, value in why.items()},
    }

    failed = runner.invoke(app, ["deploy", str(tmp_path)])
    platform.requests.clear()
    again = runner.invoke(app, ["deploy", str(tmp_path)])

    assert failed.exit_code == 1
    assert "resize could not be made ready: ImageAccessDenied: no such image" in failed.stderr
    assert again.exit_code == 1
    assert len(platform.asked("PUT")) == 1, "the same image, but it is not what serves"


def test_code_of_another_kind_is_refused_with_what_to_do(api: Api, resize: Path, tmp_path: Path) -> None:
    deploy(resize)
    (tmp_path / "image").mkdir()
    (tmp_path / "image/lambdock.toml").write_text(f'name = "resize"\nimage = "{PINNED}"\n')

    assert "PackageType Zip, which cannot be changed to Image" in refusal(tmp_path / "image")


@pytest.mark.parametrize(
    ("manifest", "told"),
    [
        (Manifest(image="x", runtime="python3.11"), "runtime is given too"),
        (Manifest(image="x", handler="a.b"), "handler is given too"),
        (Manifest(image="x", layers=()), "layers is given too"),
        (Manifest(command=("a",)), "command is for container images"),
        (Manifest(working_directory="/"), "working_directory is for container images"),
        (Manifest(arch="mips"), "'mips'"),
    ],
)
def test_settings_that_cannot_go_together_are_refused(manifest: Manifest, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        manifest.check()


def test_layer_folders_of_a_manifest_are_relative_to_it(tmp_path: Path) -> None:
    (tmp_path / "lambdock.toml").write_text(f'layers = ["../shared", "/abs", "{TOOLS}"]')

    assert read_manifest(tmp_path).layers == (tmp_path / "../shared", Path("/abs"), TOOLS)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("shop", True),
        ("shop:v1", True),
        ("team/shop:v1", True),
        ("localhost/shop", False),
        ("127.0.0.1:5000/shop", False),
        ("registry:5000/shop", False),
        ("docker.io/library/python:3.13", False),
        (f"pushed.lambdock/shop@sha256:{'a' * 64}", False),
        (f"shop@sha256:{'a' * 64}", True),
    ],
)
def test_a_name_without_a_registrys_host_is_an_image_of_the_local_engine(image: str, expected: bool) -> None:
    assert is_local(image) is expected


def _digest(package: bytes) -> str:
    return base64.b64encode(hashlib.sha256(package).digest()).decode()
