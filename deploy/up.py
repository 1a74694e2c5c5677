"""`make up`: from a machine with Python to a platform that has just run a function."""

from __future__ import annotations

import json
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from deploy import installation as installations
from deploy import port, service_images
from deploy.console import LOG, ROOT, GivingUpError, run, say, step, succeeds
from deploy.installation import Installation

#: A worker for whose runtimes no image is there makes one first.
READY_DEADLINE_S = 400
START_DEADLINE_S = 180
RUNTIME_DEADLINE_S = 1200
DEPLOY_DEADLINE_S = 900
ENGINE_DEADLINE_S = 900

PYTHON = ROOT / ".venv/bin/python"
LAMBDOCK = str(ROOT / ".venv/bin/lambdock")
#: Keeps two runs of this folder from making the same image twice.
IMAGE_LOCKS = ROOT / ".lambdock/images"


def main() -> int:
    """Bring the platform up; return the exit code."""
    try:
        LOG.parent.mkdir(exist_ok=True)
        LOG.write_bytes(b"")
        if installations.make_env_file():
            say(f"  ok   settings written to {installations.env_file().name} (every knob: .env.example)")
        here = installations.read()
        bring_up(here)
    except GivingUpError as error:
        say(f"\nerror: {error}")
        return 1
    except KeyboardInterrupt:
        say("\nstopped; 'make up' goes on from here, 'make down' removes what runs")
        return 130
    return 0


def bring_up(here: Installation) -> None:
    """All steps, each harmless when its work is done already. Raises: GivingUpError."""
    with step("Docker Engine and compose"):
        run(
            ["bash", str(ROOT / "deploy/ensure-engine.sh"), "compose"],
            what="the Docker Engine",
            timeout_s=ENGINE_DEADLINE_S,
            env=here.environment,
        )
    check_port(here)
    with step("base images (the first time: up to two minutes)"):
        service_images.copy_host_authorities()
        bases = service_images.choose_bases(here)
    runtimes = ", ".join(here.runtimes) or "none"
    with step(f"images of the platform, on {bases.platform}, and runtimes: {runtimes} (the first time: two minutes)"):
        make_images(here, bases)
    with step("controller, background, worker, redis"):
        start(here)
        wait_until_ready(here)
    with step("deploying examples/hello"):
        lambdock(here, "deploy", "examples/hello", timeout_s=DEPLOY_DEADLINE_S)
    with step("invoking it"):
        result = lambdock(here, "invoke", "hello", "--payload", '{"name": "Ada"}', timeout_s=60)
    report(here, result)


def make_images(here: Installation, bases: service_images.Bases) -> None:
    """Make the platform's images and those of the runtimes at the same time: most of it is waiting for mirrors."""
    with ThreadPoolExecutor() as pool:
        platform = pool.submit(service_images.build, here, bases)
        if here.runtimes:
            command = [str(PYTHON), "-m", "worker.images", "build", *here.runtimes, "--state-dir", str(IMAGE_LOCKS)]
            run(command, what="making runtime images", timeout_s=RUNTIME_DEADLINE_S, env=here.environment)
        platform.result()


def start(here: Installation) -> None:
    """Start what does not run, with what has changed. Raises: GivingUpError, with the words of what did not start."""
    try:
        run(here.compose("up", "-d", "--no-build"), what="compose up", timeout_s=START_DEADLINE_S, env=here.environment)
    except GivingUpError as error:
        late = "\n       ".join(unready_services(here))
        raise GivingUpError(f"{error}\n       {late}\n{last_words(here)}") from None


def check_port(here: Installation) -> None:
    """Raise GivingUpError, naming who has it, when somebody else has our port."""
    ours = [
        *("docker", "ps", "--quiet", "--filter", f"label=com.docker.compose.project={here.project}"),
        *("--filter", f"publish={here.port}"),
    ]
    if port.is_free(here.port) or run(ours, what="docker ps", timeout_s=30).strip():
        return
    theirs = ["docker", "ps", "--format", "container {{.Names}}", "--filter", f"publish={here.port}"]
    holder = run(theirs, what="docker ps", timeout_s=30).strip() or port.holder(here.port)
    raise GivingUpError(
        f"port {here.port} on 127.0.0.1 is taken by {holder}.\n"
        f"       Stop it, or choose another port: LAMBDOCK_PORT={here.port + 1 if here.port < 65535 else 4566} in .env"
    )


def wait_until_ready(here: Installation) -> None:
    """Wait until /health says that every part is there. Raises: GivingUpError with what it said last."""
    deadline = time.monotonic() + READY_DEADLINE_S
    said = "nothing yet"
    while time.monotonic() < deadline:
        is_ready, said = health(here.endpoint)
        late = unready_services(here)
        if is_ready and not late:
            return
        if late:
            said = f"{'; '.join(late)}; {said}"
        time.sleep(0.5)
    raise GivingUpError(
        f"the platform was not ready within {READY_DEADLINE_S} s; {here.endpoint}/health said: {said}\n"
        f"{last_words(here)}"
    )


def last_words(here: Installation) -> str:
    """Return the end of every service's log."""
    logs = run(here.compose("logs", "--no-color", "--tail=15"), what="compose logs", timeout_s=30, env=here.environment)
    return f"{logs}\n       All of it: bash deploy/compose.sh logs"


def unready_services(here: Installation) -> list[str]:
    """Return the containers that are not up or not well, each with its state."""
    command = ["docker", "ps", "--all", "--filter", f"label=com.docker.compose.project={here.project}"]
    states = run([*command, "--format", "{{.Names}}: {{.Status}}"], what="docker ps", timeout_s=30).splitlines()
    # "Up 3 seconds (health: starting)", "Up 1 minute (unhealthy)", "Restarting (1) 2 seconds ago", "Exited (1) …". One
    # whose health is not known yet is not waited for: /health, and the invocation that follows, tell more and sooner.
    return [state for state in states if ": Up " not in state or "(unhealthy)" in state]


def health(endpoint: str) -> tuple[bool, str]:
    """Return whether the platform is ready, and what it said in one line."""
    try:
        with urllib.request.urlopen(f"{endpoint}/health", timeout=5) as response:  # noqa: S310 - a fixed http address
            body: Any = json.load(response)
    except urllib.error.HTTPError as error:
        return False, f"HTTP {error.code} {error.read(600).decode(errors='replace')}"
    except (OSError, ValueError) as error:
        return False, f"{type(error).__name__}: {error}"
    has_worker = isinstance(body, dict) and any(worker.get("placeable") for worker in body.get("workers", {}).values())
    return has_worker, json.dumps(body)[:600]


def lambdock(here: Installation, *arguments: str, timeout_s: float) -> str:
    """Run the command line against this installation; return standard output, then standard error."""
    command = [LAMBDOCK, *arguments, "--endpoint", here.endpoint]
    # Both streams in the order of writing: the log belongs beside the result.
    merged = ["bash", "-c", 'exec "$@" 2>&1', "lambdock", *command]
    return run(merged, what=f"lambdock {' '.join(arguments[:2])}", timeout_s=timeout_s, env=here.environment).strip()


def report(here: Installation, result: str) -> None:
    """Show what there is now, and what to try."""
    option = "" if here.port == 4566 else f" --endpoint {here.endpoint}"
    command = "lambdock" if succeeds(["sh", "-c", "command -v lambdock"]) else ".venv/bin/lambdock"
    say("\nexamples/hello answered:\n")
    for line in result.splitlines():
        say(f"    {line}")
    say(f"\nLambdock is up at {here.endpoint}. Try:\n")
    say(f'    {command} invoke hello{option} --payload \'{{"name": "you"}}\'')
    say(f"    {command} logs hello{option} --follow")
    say(
        "    AWS_ACCESS_KEY_ID=any AWS_SECRET_ACCESS_KEY=any AWS_DEFAULT_REGION=us-east-1 "
        f".venv/bin/aws --endpoint-url {here.endpoint} lambda list-functions"
    )
    say("\n'make down' stops it and keeps its state; 'make purge' removes the state too.")


if __name__ == "__main__":
    sys.exit(main())
