import io
import tarfile
from pathlib import Path

import pytest

from worker.images.context import gather


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "recipe"
    made.mkdir()
    (made / "Dockerfile").write_text("FROM scratch\n")
    (made / "start").write_text("#!/bin/sh\n")
    (made / "start").chmod(0o755)
    return made


@pytest.fixture
def authorities(tmp_path: Path) -> Path:
    made = tmp_path / "authorities"
    made.mkdir()
    return made


def test_equal_sources_in_different_places_give_equal_names_and_archives(
    folder: Path, authorities: Path, tmp_path: Path
) -> None:
    copy = folder.rename(tmp_path / "elsewhere")
    first = gather([copy], authorities, {"runtime": "a"})
    (copy / "Dockerfile").touch()
    second = gather([copy.rename(folder)], authorities, {"runtime": "a"})

    assert first.digest() == second.digest()
    assert first.tar() == second.tar()


def test_every_input_changes_the_name(folder: Path, authorities: Path) -> None:
    def digest(runtime: str = "a") -> str:
        return gather([folder], authorities, {"runtime": runtime}).digest()

    seen = [digest(), digest("b")]
    (folder / "Dockerfile").write_text("FROM base\n")
    seen.append(digest())
    (folder / "start").chmod(0o644)
    seen.append(digest())
    (folder / "start").rename(folder / "begin")
    seen.append(digest())
    (authorities / "own.crt").write_text("certificate")
    seen.append(digest())

    assert len(set(seen)) == len(seen)


def test_compiled_files_and_inputs_of_pinned_lists_are_left_out(folder: Path, authorities: Path) -> None:
    before = gather([folder], authorities, {}).digest()
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "x.pyc").write_bytes(b"")
    (folder / "requirements.in").write_text("boto3\n")

    assert gather([folder], authorities, {}).digest() == before


def test_archive_has_the_authorities_directory_even_when_the_host_has_none(folder: Path, tmp_path: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(gather([folder], tmp_path / "missing", {}).tar())) as archive:
        modes = {item.name: item.mode for item in archive}

    assert modes == {"extra-ca": 0o755, "Dockerfile": 0o644, "start": 0o755}
