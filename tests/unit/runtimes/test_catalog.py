from pathlib import Path

import botocore.session
import pytest

from runtimes.catalog import CatalogError, RuntimeStatus, SuiteBase, load_catalog


def test_catalog_lists_every_runtime_of_the_service_model_and_no_other() -> None:
    model = botocore.session.get_session().get_service_model("lambda")

    assert set(load_catalog()) == set(model.shape_for("Runtime").enum)


def test_supported_runtimes_have_a_recipe_and_the_others_have_none() -> None:
    for entry in load_catalog().values():
        supported = entry.status is RuntimeStatus.SUPPORTED
        assert bool(entry.bases) is supported
        assert (entry.folder is not None and (entry.folder / "Dockerfile").is_file()) is supported


def test_two_python_versions_can_be_built_without_a_registry() -> None:
    from_suites = {
        name: [base.suite for base in entry.bases if isinstance(base, SuiteBase)]
        for name, entry in load_catalog().items()
    }

    assert {name: suites for name, suites in from_suites.items() if suites} == {
        "python3.11": ["bookworm"],
        "python3.13": ["trixie"],
    }


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
