"""Container images for tests: made without a registry, on the engine that runs, and removed with their names.

`function_image` has a Lambda runtime client, awslambdaric, and a handler, on the platform's own Python image.
`tiny_image` has nothing but one file, FROM scratch. (`tests/foreign_images.py` makes images that run programs.)
"""

from __future__ import annotations

import io
import tarfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from docker.errors import APIError

from tests.docker_archives import classic_members, config_of, layer, tar_of
from worker.engine import DockerEngine

HANDLER = "def handler(event, context): return event\n"


@contextmanager
def loaded(client: Any, archive: bytes, *names: str) -> Iterator[None]:
    """Load an archive into the engine; take its names away on leaving the block."""
    try:
        for event in client.api.load_image(archive):
            assert "error" not in event, event
        yield
    finally:
        for name in names:
            remove(client, name)


@contextmanager
def tiny_image(
    client: Any,
    *,
    text: str = "",
    architecture: str = "amd64",
    config: Mapping[str, Any] | None = None,
    layers: Sequence[bytes] = (),
) -> Iterator[str]:
    """Yield the name of an image FROM scratch, with a file that is no program; of a content that no other test has."""
    name = f"{unique_name()}:1"
    text = text or name
    with loaded(client, tiny_archive(name, text=text, architecture=architecture, config=config, layers=layers), name):
        yield name


def tiny_archive(
    name: str = "app:latest",
    *,
    text: str = "hello",
    architecture: str = "amd64",
    config: Mapping[str, Any] | None = None,
    layers: Sequence[bytes] = (),
) -> bytes:
    """Return the archive of an image with a file that is no program."""
    stack = [*layers, layer(app=text)]
    settings = {"architecture": architecture, "config": dict(config or {"Cmd": ["/app"]})}
    return tar_of(classic_members(stack, config=config_of(stack, **settings), tags=(name,)))


@contextmanager
def built_image(client: Any, dockerfile: str, files: Mapping[str, bytes | str] | None = None) -> Iterator[str]:
    """Yield the name of an image built from a Dockerfile and files; what it is built on stays."""
    name = f"{unique_name()}:1"
    context = {"Dockerfile": dockerfile, **(files or {})}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, content in context.items():
            raw = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(path)
            info.size, info.mode = len(raw), 0o755
            archive.addfile(info, io.BytesIO(raw))
    try:
        output = []
        for event in client.api.build(
            fileobj=io.BytesIO(buffer.getvalue()), custom_context=True, tag=name, rm=True, forcerm=True, decode=True
        ):
            output.append(event)
            assert "error" not in event, output
        yield name
    finally:
        remove(client, name)


@contextmanager
def function_image(client: Any, base: str, files: Mapping[str, str] | None = None, extra: str = "") -> Iterator[str]:
    """Yield the name of an image as users build them: awslambdaric with a handler, `app.handler`.

    `base` is an image of the platform's own Python runtime (`python_base`), whose gate is not its entry point any
    more; `extra` goes at the end of the Dockerfile.
    """
    dockerfile = (
        f"FROM {base}\n"
        "WORKDIR /var/task\n"
        "COPY task/ /var/task/\n"
        "ENV PYTHONPATH=/var/runtime\n"
        'ENTRYPOINT ["/var/lang/bin/python3", "-m", "awslambdaric"]\n'
        'CMD ["app.handler"]\n' + extra
    )
    task = {f"task/{name}": text for name, text in (files or {"app.py": HANDLER}).items()}
    with built_image(client, dockerfile, task) as name:
        yield name


def python_base(client: Any, runtime: str = "python3.11") -> str:
    """Return the platform's present image of a Python runtime; made before, by any function or `worker.images`."""
    from runtimes.catalog import load_catalog
    from worker.images.runtime_images import RuntimeImages

    engine = DockerEngine(client)
    tag = RuntimeImages(engine, load_catalog(), Path("/nonexistent")).tag(runtime)
    assert tag is not None
    return tag


def saved(client: Any, name: str) -> bytes:
    """Return what `docker save` of an image writes."""
    return b"".join(client.api.get_image(name))


def unique_name() -> str:
    """Return a repository that no other test uses."""
    return f"lambdock-test/{uuid.uuid4().hex[:12]}"


def remove(client: Any, name: str) -> None:
    """Take a name away, and the image with its last one."""
    with suppress(APIError):
        client.api.remove_image(name)


def names_of_cell(client: Any, cell: str) -> list[str]:
    """Return the names of function images that a cell's workers have left on the engine."""
    from worker.images.function_calls import named
    from worker.images.function_images import function_repository

    return list(named(client, function_repository(cell)))
