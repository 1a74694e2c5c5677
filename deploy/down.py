"""`make down` and `make purge`: remove what this installation runs, and with `purge` what it has stored."""

from __future__ import annotations

import sys

from deploy import installation as installations
from deploy.console import GivingUpError, run, say, step, succeeds
from deploy.installation import Installation

DOWN_DEADLINE_S = 180
DOCKER_DEADLINE_S = 120

#: The label of everything that workers make for sandboxes; its value is the cell.
CELL_LABEL = "lambdock"
PROJECT_LABEL = "com.docker.compose.project"
#: The images of the services; other versions may belong to other installations.
IMAGES = ("controller", "worker", "redis")
#: The repository in which workers name a cell's function images on their engine.
FUNCTION_IMAGES = "lambdock/{cell}-functions"


def main(arguments: list[str]) -> int:
    """Take the installation down; `--purge` removes its state. Returns the exit code."""
    try:
        here = installations.read()
        if not succeeds(["docker", "info"]):
            raise GivingUpError("no Docker Engine answers, so nothing can be looked for; start it and try again")
        take_down(here)
        if "--purge" in arguments:
            purge(here)
        else:
            say("Down. Functions and their state are kept: 'make up' brings them back, 'make purge' removes them.")
    except GivingUpError as error:
        say(f"\nerror: {error}")
        return 1
    return 0


def take_down(here: Installation) -> None:
    """Remove services, sandboxes and networks, whoever of them died before. Idempotent. Raises: GivingUpError."""
    with step(f"services of {here.project}"):
        if listed("container", PROJECT_LABEL, here.project):
            # Orderly, so that the worker ends what it runs. What compose can't remove, the labels below find.
            try:
                run(
                    here.compose("down", "--remove-orphans"),
                    what="compose down",
                    timeout_s=DOWN_DEADLINE_S,
                    env=here.environment,
                )
            except GivingUpError as error:
                say(f"       {error}")
        remove("container", listed("container", PROJECT_LABEL, here.project))
        remove("network", listed("network", PROJECT_LABEL, here.project))
    with step(f"sandboxes of cell {here.cell}"):
        # Containers first: they use the others.
        for kind in ("container", "volume", "network"):
            remove(kind, listed(kind, CELL_LABEL, here.cell))


def purge(here: Installation) -> None:
    """Remove the state and the platform's images, having said which. Raises: GivingUpError."""
    volumes = listed("volume", PROJECT_LABEL, here.project)
    say("Removing for good: functions, versions, code, queued events and logs of this installation:")
    for volume in volumes:
        say(f"    volume {volume}")
    remove("volume", volumes)
    for image in (f"lambdock/{name}:{here.version}" for name in IMAGES):
        # Refused while another installation runs on it.
        if succeeds(["docker", "image", "rm", image], timeout_s=DOCKER_DEADLINE_S):
            say(f"    image {image}")
    for image in function_images(here.cell):
        # Another name, or another installation's, keeps the image itself.
        if succeeds(["docker", "image", "rm", image], timeout_s=DOCKER_DEADLINE_S):
            say(f"    image {image}")
    say("Purged. Runtime and base images stay for the next 'make up': docker images 'lambdock/*' lists them.")


def function_images(cell: str) -> list[str]:
    """Return the names that the cell's workers have given to functions' container images. Raises: GivingUpError."""
    repository = FUNCTION_IMAGES.format(cell=cell)
    command = ["docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", repository]
    return run(command, what="listing images", timeout_s=DOCKER_DEADLINE_S).split()


def listed(kind: str, label: str, value: str) -> list[str]:
    """Return the ids (volumes: names) of what carries a label. Raises: GivingUpError."""
    everything = ["--all"] if kind == "container" else []
    command = ["docker", kind, "ls", *everything, "--quiet", "--filter", f"label={label}={value}"]
    return run(command, what=f"listing {kind}s", timeout_s=DOCKER_DEADLINE_S).split()


def remove(kind: str, names: list[str]) -> None:
    """Remove engine objects; running containers too. Something that is gone already is no error."""
    if not names:
        return
    force = ["--force"] if kind in ("container", "volume") else []
    try:
        run(["docker", kind, "rm", *force, *names], what=f"removing {kind}s", timeout_s=DOCKER_DEADLINE_S)
    except GivingUpError:
        everything = ["--all"] if kind == "container" else []
        still = run(
            ["docker", kind, "ls", "--quiet", *everything], what=f"listing {kind}s", timeout_s=DOCKER_DEADLINE_S
        )
        if set(names) & set(still.split()):
            raise


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
