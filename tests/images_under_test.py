"""Container images for tests: made without a registry, on the engine that runs, and removed with their names.

`function_image` has a Lambda runtime client, awslambdaric, and a handler, on the platform's own Python image.
`static_image` has nothing but one file, FROM scratch.
"""

from __future__ import annotations

import io
import shutil
import subprocess
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
#: A runtime client that needs no library: answers each event with the event. For images without a shell.
ECHO_C = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <arpa/inet.h>
#include <sys/socket.h>

static char buffer[1 << 20];

static int ask(const char *host, int port, const char *head, const char *body, size_t size) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, host, &to.sin_addr);
    int fd = socket(AF_INET, SOCK_STREAM, 0), got = 0, n;
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to)) exit(3);
    if (write(fd, head, strlen(head)) < 0 || (size && write(fd, body, size) < 0)) exit(4);
    while ((n = read(fd, buffer + got, sizeof buffer - 1 - got)) > 0) {
        got += n;
        buffer[got] = 0;
        char *end = strstr(buffer, "\r\n\r\n"), *length = strcasestr(buffer, "content-length:");
        if (end && length && got - (end + 4 - buffer) >= atoi(length + 15)) break;
    }
    close(fd);
    return got;
}

int main(void) {
    static char head[512], body[1 << 20], id[64], host[64];
    int port = 0;
    if (sscanf(getenv("AWS_LAMBDA_RUNTIME_API"), "%63[^:]:%d", host, &port) != 2) return 2;
    puts("static runtime starts");
    fflush(stdout);
    for (;;) {
        snprintf(head, sizeof head,
                 "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: %s:%d\r\n\r\n", host, port);
        ask(host, port, head, "", 0);
        char *at = strcasestr(buffer, "lambda-runtime-aws-request-id:"), *end = strstr(buffer, "\r\n\r\n");
        if (!at || !end || sscanf(at + 30, " %63s", id) != 1) return 5;
        size_t size = strlen(end + 4);
        memcpy(body, end + 4, size);
        snprintf(head, sizeof head,
                 "POST /2018-06-01/runtime/invocation/%s/response HTTP/1.1\r\n"
                 "Host: %s:%d\r\nContent-Length: %zu\r\n\r\n",
                 id, host, port, size);
        ask(host, port, head, body, size);
    }
}
"""


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


@contextmanager
def static_image(client: Any, directory: Path) -> Iterator[str]:
    """Yield the name of an image FROM scratch with a static runtime client that echoes; needs a C compiler."""
    program = static_program(directory)
    dockerfile = 'FROM scratch\nCOPY echo /echo\nENTRYPOINT ["/echo"]\n'
    with built_image(client, dockerfile, {"echo": program.read_bytes()}) as name:
        yield name


def static_program(directory: Path) -> Path:
    """Compile ECHO_C, without any library that an image would have to have; return the program."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise RuntimeError("no C compiler: apt-get install gcc libc6-dev")
    directory.mkdir(parents=True, exist_ok=True)
    source, program = directory / "echo.c", directory / "echo"
    source.write_text(ECHO_C)
    command = [compiler, "-D_GNU_SOURCE", "-static", "-O1", "-o", str(program), str(source)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return program


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
