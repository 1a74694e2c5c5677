"""Layers by the `aws` command line, unmodified."""

from __future__ import annotations

import json
from pathlib import Path

from tests.conformance.layer_zips import layer_name, layer_zip
from tests.conformance.test_aws_cli import aws
from tests.platform_under_test import ROLE, RUNTIME, Platform, package

ARN = "arn:aws:lambda:us-east-1:000000000000:layer"


def test_the_aws_cli_publishes_reads_lists_and_deletes_layers(platform: Platform, tmp_path: Path) -> None:
    name, archive = layer_name(), tmp_path / "layer.zip"
    archive.write_bytes(layer_zip({"python/dep.py": "N = 1\n"}))
    content = ["--layer-name", name, "--zip-file", f"fileb://{archive}"]

    made = aws(
        platform, "publish-layer-version", *content, "--description", "one", "--license-info", "MIT",
        "--compatible-runtimes", RUNTIME, "nodejs22.x", "--compatible-architectures", "x86_64",
    )  # fmt: skip
    assert (made["LayerVersionArn"], made["Version"]) == (f"{ARN}:{name}:1", 1)
    assert (made["CompatibleRuntimes"], made["CompatibleArchitectures"]) == ([RUNTIME, "nodejs22.x"], ["x86_64"])
    for _ in range(2):
        aws(platform, "publish-layer-version", *content)

    by_name = aws(platform, "get-layer-version", "--layer-name", name, "--version-number", "1")
    by_arn = aws(platform, "get-layer-version-by-arn", "--arn", f"{ARN}:{name}:1")
    for answer in (by_name, by_arn):
        assert (answer["Description"], answer["LicenseInfo"]) == ("one", "MIT")
        assert answer["Content"]["CodeSha256"] == made["Content"]["CodeSha256"]
    versions = aws(platform, "list-layer-versions", "--layer-name", name, "--page-size", "1")["LayerVersions"]
    assert [one["Version"] for one in versions] == [3, 2, 1]
    some = aws(platform, "list-layer-versions", "--layer-name", name, "--max-items", "2")
    rest = aws(platform, "list-layer-versions", "--layer-name", name, "--starting-token", some["NextToken"])
    assert [one["Version"] for one in (*some["LayerVersions"], *rest["LayerVersions"])] == [3, 2, 1]
    compatible = ["--compatible-runtime", "nodejs22.x", "--compatible-architecture", "x86_64"]
    matching = aws(platform, "list-layer-versions", "--layer-name", name, *compatible)["LayerVersions"]
    assert [one["Version"] for one in matching] == [1]
    layers = aws(platform, "list-layers", *compatible)["Layers"]
    assert [one["LatestMatchingVersion"]["Version"] for one in layers if one["LayerName"] == name] == [1]

    assert aws(platform, "delete-layer-version", "--layer-name", name, "--version-number", "1") is None
    assert aws(platform, "delete-layer-version", "--layer-name", name, "--version-number", "1") is None
    gone = aws(platform, "get-layer-version", "--layer-name", name, "--version-number", "1")
    assert "(ResourceNotFoundException) when calling the GetLayerVersion operation: The resource you requested" in gone


def test_the_aws_cli_creates_a_function_with_a_layer_and_changes_it(platform: Platform, tmp_path: Path) -> None:
    name, out = layer_name(), tmp_path / "out.json"
    (tmp_path / "code.zip").write_bytes(package("import dep\ndef handler(event, context):\n    return dep.N\n"))
    arns = []
    for number in (1, 2):
        (tmp_path / "layer.zip").write_bytes(layer_zip({"python/dep.py": f"N = {number}\n"}))
        content = ["--layer-name", name, "--zip-file", f"fileb://{tmp_path / 'layer.zip'}"]
        arns.append(aws(platform, "publish-layer-version", *content)["LayerVersionArn"])

    made = aws(
        platform, "create-function", "--function-name", name, "--runtime", RUNTIME, "--role", ROLE,
        "--handler", "app.handler", "--zip-file", f"fileb://{tmp_path / 'code.zip'}", "--layers", arns[0],
    )  # fmt: skip
    assert [one["Arn"] for one in made["Layers"]] == [arns[0]]
    assert aws(platform, "wait", "function-active-v2", "--function-name", name) is None
    aws(platform, "invoke", "--function-name", name, str(out))
    assert json.loads(out.read_text()) == 1

    refused = aws(platform, "update-function-configuration", "--function-name", name, "--layers", *arns)
    assert "Two different versions of the same layer are not allowed" in refused
    aws(platform, "update-function-configuration", "--function-name", name, "--layers", arns[1])
    assert aws(platform, "wait", "function-updated-v2", "--function-name", name) is None
    aws(platform, "invoke", "--function-name", name, str(out))
    assert json.loads(out.read_text()) == 2
