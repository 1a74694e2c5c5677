"""The real images: built, and run as a worker runs them, without a network."""

import json
import os
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runtimes.catalog import load_catalog
from worker.engine import DockerEngine
from worker.images import engine_images
from worker.images.bases import base_tag
from worker.images.errors import RuntimeUnavailableError
from worker.images.runtime_images import HOST_AUTHORITIES, RuntimeImages
from worker.sandbox.assignment import assignment
from worker.sandbox.driver import ProcessSpec

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

RUNTIMES = ["python3.11", "python3.13"]
NODE = ["nodejs20.x", "nodejs22.x"]

#: The service that a runtime client polls, beside the client: this container has no network to reach one by.
STUB = """
import http.server, json, subprocess, sys, threading, time
answers = []
class Api(http.server.BaseHTTPRequestHandler):
    protocol_version, wbufsize, disable_nagle_algorithm = "HTTP/1.1", -1, True
    def log_message(self, *args): pass
    def answer(self, status, body, **headers):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": len(body)}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        if answers:
            threading.Event().wait()
        answers.append(("next_s", time.monotonic() - started))
        # Without a content type the official client dies of a segmentation fault.
        self.answer(200, b'{"key": 1}', Content_Type="application/json",
                    Lambda_Runtime_Aws_Request_Id="r-1", Lambda_Runtime_Deadline_Ms=9999999999999,
                    Lambda_Runtime_Invoked_Function_Arn="arn:aws:lambda:us-east-1:000000000000:function:f")
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        answers.append((self.path.rsplit("/", 1)[1], json.loads(body)))
        self.answer(202, b"{}")
        done.set()
server, done = http.server.ThreadingHTTPServer(("127.0.0.1", 9001), Api), threading.Event()
# The runtime is killed in the middle of its next request; what is said of it would mix with the result.
server.handle_error = lambda *_: None
threading.Thread(target=server.serve_forever, daemon=True).start()
started = time.monotonic()
runtime = subprocess.Popen(["/var/runtime/bootstrap"])
done.wait(60)
runtime.kill()
runtime.wait()
print(json.dumps(dict(answers)), flush=True)
"""
APP = """
import os, sys
def handler(event, context):
    import boto3, awslambdaric
    return {"event": event, "id": context.aws_request_id, "path": sys.path, "boto3": boto3.__file__,
            "client": awslambdaric.__file__, "executable": sys.executable, "pythonpath": os.environ["PYTHONPATH"],
            "uid": os.getuid()}
def broken(event, context):
    raise ValueError("no")
"""


@pytest.fixture(scope="module")
def engine() -> Iterator[DockerEngine]:
    with DockerEngine.connected() as connected:
        yield connected


@pytest.fixture
def progress() -> list[str]:
    return []


@pytest.fixture
def machine(engine: DockerEngine) -> str:
    return engine_images.engine_architecture(engine.client)


@pytest.fixture
def make_images(engine: DockerEngine, tmp_path: Path, progress: list[str]) -> Callable[..., RuntimeImages]:
    def make(**options: Any) -> RuntimeImages:
        return RuntimeImages(engine, load_catalog(), tmp_path / "state", on_progress=progress.append, **options)

    return make


class Box:
    """One container, started as the sandbox driver does; its FIFOs are in `run_dir`."""

    def __init__(self, engine: DockerEngine, image: str, directory: Path) -> None:
        self.run_dir, self.task = directory / "run", directory / "task"
        for path in (directory, self.run_dir, self.task):
            path.mkdir(exist_ok=True)
            path.chmod(0o755)
        for name in ("assignment", "log"):
            os.mkfifo(self.run_dir / name)
            (self.run_dir / name).chmod(0o666)
        self.log = os.open(self.run_dir / "log", os.O_RDWR | os.O_NONBLOCK)
        self.container = engine.client.containers.create(
            image,
            network_mode="none",
            read_only=True,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            tmpfs={"/tmp": "size=64m"},
            volumes={
                str(self.run_dir): {"bind": "/run/lambdock", "mode": "ro"},
                str(self.task): {"bind": "/var/task", "mode": "ro"},
            },
            labels={"lambdock-test": uuid.uuid4().hex},
        )

    def run(self, argv: list[str], env: dict[str, str]) -> tuple[int, str]:
        """Start, release and wait; returns exit status and log."""
        self.container.start()
        (self.run_dir / "assignment").write_bytes(assignment(ProcessSpec(argv=tuple(argv), env=env)))
        status = self.container.wait(timeout=90)["StatusCode"]
        try:
            return status, os.read(self.log, 1 << 20).decode()
        except BlockingIOError:
            return status, ""

    def close(self) -> None:
        os.close(self.log)
        self.container.remove(force=True)


@pytest.fixture
async def box(
    request: pytest.FixtureRequest, engine: DockerEngine, make_images: Any, machine: str, tmp_path: Path
) -> AsyncIterator[Box]:
    made = Box(engine, await make_images().ensure(request.param, machine), tmp_path / "box")
    yield made
    made.close()


def environment(runtime: str, **extra: str) -> dict[str, str]:
    return {
        **load_catalog()[runtime].default_env,
        "AWS_EXECUTION_ENV": load_catalog()[runtime].execution_env,
        "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9001",
        "AWS_LAMBDA_FUNCTION_NAME": "f",
        "LAMBDA_TASK_ROOT": "/var/task",
        "LAMBDA_RUNTIME_DIR": "/var/runtime",
        "_HANDLER": "app.handler",
        **extra,
    }


def invoke(box: Box, runtime: str, **extra: str) -> dict[str, Any]:
    (box.task / "stub.py").write_text(STUB)
    (box.task / "app.py").write_text(APP)
    status, log = box.run(["/var/lang/bin/python3", "/var/task/stub.py"], environment(runtime, **extra))
    assert status == 0, log
    answers = log.splitlines()[-1]
    assert answers.startswith("{"), log
    return dict(json.loads(answers))


@pytest.mark.parametrize(("box", "runtime"), [(name, name) for name in RUNTIMES], indirect=["box"])
def test_image_serves_an_invocation_with_the_official_client(
    box: Box, runtime: str, record_property: Callable[[str, object], None]
) -> None:
    answers = invoke(box, runtime)

    result = answers["response"]
    assert result["event"] == {"key": 1}
    assert result["id"] == "r-1"
    assert result["uid"] == 993
    assert result["path"][:4] == [
        "/var/task",
        f"/opt/python/lib/{runtime}/site-packages",
        "/opt/python",
        "/var/runtime",
    ]
    assert result["boto3"].startswith("/var/runtime/boto3/")
    assert result["client"].startswith("/var/runtime/awslambdaric/")
    assert result["executable"] == "/var/lang/bin/python3"
    assert result["pythonpath"] == "/var/runtime"
    record_property("bootstrap_to_next_s", answers["next_s"])
    print(f"{runtime}: bootstrap to first poll {answers['next_s'] * 1000:.0f} ms")


@pytest.mark.parametrize("box", RUNTIMES, indirect=True)
def test_packages_of_the_function_win_over_the_runtimes(box: Box) -> None:
    (box.task / "boto3").mkdir()
    (box.task / "boto3" / "__init__.py").write_text("")

    assert invoke(box, "python3.13")["response"]["boto3"] == "/var/task/boto3/__init__.py"


@pytest.mark.parametrize("box", ["python3.13"], indirect=True)
def test_pythonpath_of_the_function_replaces_the_layers_directories(box: Box) -> None:
    result = invoke(box, "python3.13", PYTHONPATH="/var/task/lib")["response"]

    assert result["path"][:3] == ["/var/task", "/var/task/lib", "/var/runtime"]
    assert result["pythonpath"] == "/var/task/lib"


@pytest.mark.parametrize("box", ["python3.13"], indirect=True)
def test_wrapper_script_starts_the_runtime(box: Box) -> None:
    wrapper = box.task / "wrapper"
    wrapper.write_text('#!/bin/sh\nexport PYTHONPATH=/wrapped\nexec "$@"\n')
    wrapper.chmod(0o755)

    answers = invoke(box, "python3.13", AWS_LAMBDA_EXEC_WRAPPER="/var/task/wrapper")

    assert answers["response"]["path"][1] == "/wrapped"


@pytest.mark.parametrize("box", ["python3.11"], indirect=True)
def test_exception_of_a_handler_has_lambdas_shape(box: Box) -> None:
    error = invoke(box, "python3.11", _HANDLER="app.broken")["error"]

    assert (error["errorType"], error["errorMessage"]) == ("ValueError", "no")
    assert error["stackTrace"] == ['  File "/var/task/app.py", line 9, in broken\n    raise ValueError("no")\n']


@pytest.mark.parametrize("box", [*RUNTIMES, *NODE], indirect=True)
def test_gate_shows_the_program_nothing_of_the_container(box: Box) -> None:
    started = time.monotonic()
    status, log = box.run(["/usr/bin/env"], {"A": "1"})

    assert (status, log) == (0, "A=1\n")
    print(f"start to exit through the gate {(time.monotonic() - started) * 1000:.0f} ms")


@pytest.mark.parametrize("box", [*RUNTIMES, *NODE], indirect=True)
def test_malformed_assignment_ends_the_container_with_status_70(box: Box) -> None:
    assert box.run([], {})[0] == 70


@pytest.mark.parametrize(("box", "runtime"), [(name, name) for name in NODE], indirect=["box"])
def test_node_image_has_lambdas_files_and_the_hosts_authorities(box: Box, runtime: str) -> None:
    script = """
const fs = require("fs"), os = require("os");
const text = (path) => { try { return fs.readFileSync(path, "utf8"); } catch (error) { return error.code; } };
console.log(JSON.stringify({
  version: process.version, home: os.homedir(), executable: process.execPath, user: os.userInfo().uid,
  authorities: text("/var/runtime/extra-ca.pem"), ric: fs.readdirSync("/var/runtime/ric"),
  links: ["/node_modules", "/var/node_modules"].map((path) => fs.readlinkSync(path)),
  sdk: fs.readdirSync("/var/runtime/node_modules/@aws-sdk").filter((name) => name.startsWith("client-")).length,
}));
"""
    status, log = box.run(["/var/lang/bin/node", "-e", script], environment(runtime))

    assert status == 0, log
    seen = json.loads(log)
    assert seen["version"].startswith(f"v{runtime.removeprefix('nodejs').removesuffix('x')}")
    assert (seen["user"], seen["home"], seen["executable"]) == (993, "/home/sbx_user1051", "/var/lang/bin/node")
    assert seen["links"] == ["/var/runtime/node_modules", "/opt/nodejs/node_modules"]
    assert {"index.mjs", "LICENSE", "NOTICE", "rapid-client.node"} <= set(seen["ric"])
    assert seen["sdk"] > 50
    private = sorted(HOST_AUTHORITIES.glob("*.crt"))
    assert seen["authorities"] == "".join(path.read_text() for path in private)


@pytest.mark.parametrize("runtime", [*RUNTIMES, *NODE])
async def test_image_has_no_pip_and_no_search_path_that_reaches_the_gate(
    engine: DockerEngine, make_images: Any, machine: str, runtime: str
) -> None:
    config = engine_images.inspect(engine.client, await make_images().ensure(runtime, machine))["Config"]  # type: ignore[index]

    assert config["Entrypoint"] == ["/bin/sh", "/var/runtime/gate.sh"]
    assert not config["Cmd"]
    assert config["User"] == "993:990"
    assert config["Labels"]["lambdock.runtime"] == runtime
    assert not [
        item for item in config["Env"] if item.startswith(("LD_", "PYTHONPATH", "PYTHONHOME", "NODE_", "ENV=", "IFS="))
    ]


async def test_an_image_that_exists_is_found_without_building(
    make_images: Any, machine: str, progress: list[str]
) -> None:
    tag = await make_images().ensure("python3.13", machine)
    progress.clear()

    assert await make_images().ensure("python3.13", machine) == tag == make_images().tag("python3.13")
    assert progress == []


async def test_other_architecture_is_refused_with_both_named(make_images: Any, machine: str) -> None:
    other = "arm64" if machine == "x86_64" else "x86_64"

    with pytest.raises(RuntimeUnavailableError, match=f"runs {machine} code, and the function is for {other}"):
        await make_images().ensure("python3.13", other)


async def test_runtime_without_a_recipe_names_the_setting(make_images: Any, machine: str) -> None:
    with pytest.raises(RuntimeUnavailableError, match=r'LAMBDOCK_RUNTIME_IMAGES .*"ruby3\.4"'):
        await make_images().ensure("ruby3.4", machine)


async def test_named_image_that_was_made_here_is_used_as_it_is(
    make_images: Any, machine: str, progress: list[str]
) -> None:
    tag = await make_images().ensure("python3.13", machine)

    assert await make_images(mapping={"python3.13": tag}).ensure("python3.13", machine) == tag
    with pytest.raises(RuntimeUnavailableError, match=r"says python3\.13"):
        await make_images(mapping={"python3.11": tag}).ensure("python3.11", machine)


async def test_named_base_of_another_version_fails_with_the_output_of_the_build(make_images: Any, machine: str) -> None:
    await make_images().ensure("python3.13", machine)

    with pytest.raises(RuntimeUnavailableError, match=r"the base image has python3\.13, and python3\.12 is needed"):
        await make_images(mapping={"python3.12": base_tag("trixie")}).ensure("python3.12", machine)


async def test_prune_removes_images_of_other_sources_only(engine: DockerEngine, make_images: Any, machine: str) -> None:
    images = make_images()
    tag = await images.ensure("python3.13", machine)
    old = f"lambdock/python3.13:{uuid.uuid4().hex[:16]}"
    old_node = f"lambdock/nodejs22.x:{uuid.uuid4().hex[:16]}"
    old_base = f"lambdock/base-trixie:{uuid.uuid4().hex[:16]}"
    foreign = f"somebody-{uuid.uuid4().hex[:8]}/python3.13:1"
    for name in (old, old_node, old_base, foreign):
        engine.client.api.tag(tag, *name.split(":"))

    try:
        removed = await images.prune()

        assert {old, old_node, old_base} <= set(removed)
        assert engine_images.inspect(engine.client, tag)
        assert engine_images.inspect(engine.client, foreign)
    finally:
        for name in (old, old_node, old_base, foreign):
            engine_images.remove(engine.client, name)
