"""The platform's own images, and what they are built on."""

from __future__ import annotations

import hashlib
import queue
import shutil
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from deploy.console import ROOT, run, succeeds
from deploy.installation import Installation

OFFICIAL_BASE = "python:3.11-slim-bookworm"
OFFICIAL_REDIS_BASE = "redis:7.4-bookworm"
#: Made from the distribution's packages.
OWN_SUITE = "bookworm"
MAKE_BASE = ROOT / "runtimes/base/make-base.sh"
#: The tag that the worker gives this base, so that runtime images share it.
OWN_BASE = f"lambdock/base-{OWN_SUITE}:{hashlib.sha256(MAKE_BASE.read_bytes()).hexdigest()[:16]}"

#: A registry that has not named the image's layers by then is taken for none.
REGISTRY_DEADLINE_S = 10
PULL_DEADLINE_S = 900
BASE_DEADLINE_S = 900
BUILD_DEADLINE_S = 1200

_HOST_CAS = Path("/usr/local/share/ca-certificates")
_EXTRA_CA = ROOT / "deploy/images/extra-ca"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bases:
    """What the images are built on."""

    platform: str
    redis: str


def choose_bases(installation: Installation) -> Bases:
    """Return the operator's bases, else official ones where they can be had, else our own, made if missing.

    What is there already is used without asking a registry. Raises: GivingUpError.
    """
    platform = installation.base or _first_present(OFFICIAL_BASE, OWN_BASE)
    if platform is None:
        platform = OFFICIAL_BASE if _pull(OFFICIAL_BASE) else _own_base(installation)
    redis = installation.redis_base or _first_present(OFFICIAL_REDIS_BASE)
    if redis is None and platform == OFFICIAL_BASE and _pull(OFFICIAL_REDIS_BASE):
        redis = OFFICIAL_REDIS_BASE
    return Bases(platform=platform, redis=redis or _own_base(installation))


def copy_host_authorities() -> int:
    """Let builds trust the private authorities that this host trusts; return how many there are."""
    certificates = {path.name: path for path in _HOST_CAS.glob("**/*.crt")}
    for stale in _EXTRA_CA.glob("*.crt"):
        if stale.name not in certificates:
            stale.unlink()
    for name, path in certificates.items():
        target = _EXTRA_CA / name
        # Untouched when equal: a new file would make every image anew.
        if not target.exists() or target.read_bytes() != path.read_bytes():
            shutil.copyfile(path, target)
    return len(certificates)


def build(installation: Installation, bases: Bases) -> None:
    """Build the images of all services; seconds when nothing changed. Raises: GivingUpError."""
    environment = {
        **installation.environment,
        "LAMBDOCK_BASE": bases.platform,
        "LAMBDOCK_REDIS_BASE": bases.redis,
    }
    run(installation.compose("build"), what="building the images", timeout_s=BUILD_DEADLINE_S, env=environment)


def _first_present(*images: str) -> str | None:
    return next((image for image in images if succeeds(["docker", "image", "inspect", image])), None)


def _own_base(installation: Installation) -> str:
    run(
        ["bash", str(ROOT / "deploy/ensure-engine.sh"), "images"],
        what="installing mmdebstrap",
        timeout_s=BASE_DEADLINE_S,
        env=installation.environment,
    )
    run(
        ["bash", str(MAKE_BASE), OWN_SUITE, OWN_BASE],
        what=f"making the base image {OWN_BASE}",
        timeout_s=BASE_DEADLINE_S,
        env=installation.environment,
    )
    return OWN_BASE


def _pull(image: str) -> bool:
    """Pull an image; False soon when no registry answers."""
    puller = subprocess.Popen(
        ["docker", "pull", image], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    output = puller.stdout
    assert output is not None

    def read() -> None:
        for line in output:
            lines.put(line)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    deadline = time.monotonic() + PULL_DEADLINE_S
    try:
        # The first line comes once the registry has answered; before that, silence.
        lines.get(timeout=REGISTRY_DEADLINE_S)
        return puller.wait(timeout=max(1.0, deadline - time.monotonic())) == 0
    except (queue.Empty, subprocess.TimeoutExpired):
        return False
    finally:
        if puller.poll() is None:
            puller.kill()
        puller.wait()
        reader.join()
        output.close()
