"""Which processes make up the platform, and what each is told by its environment."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cli.serve.process import Command
from cli.serve.supervisor import Part, Probe

#: What the workers get to finish their invocations after SIGTERM.
WORKER_DRAIN_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that the processes must know."""

    state_dir: Path
    cell: str
    #: `HOST:PORT` as bound; the controllers inherit the listening socket itself.
    listen: str
    listen_fd: int
    redis_url: str
    worker_ids: tuple[str, ...]
    controllers: int
    blob_url: str | None = None
    inherited: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Probes:
    """How one sees that a controller, and that all workers, are ready."""

    controller: Probe
    workers: Probe


def platform_parts(plan: Plan, redis: Part | None, probes: Probes) -> tuple[Part, ...]:
    """Return the parts in their order: started from the first, stopped from the last.

    Controllers come last, so that they stop taking requests, and have their answers from the workers, before anything
    below them goes. All but Redis start together.
    """
    common = _environment(plan)
    background = Part(
        name="background",
        command=_python(plan, "controller.background", common),
        stage=1,
        settle_s=2.0,
        drain_budget_s=15.0,
    )
    workers = tuple(
        Part(
            name=_numbered("worker", index, len(plan.worker_ids)),
            command=_python(plan, "worker", {**common, "LAMBDOCK_WORKER_ID": worker_id}),
            probe=probes.workers,
            stage=1,
            # The first start may build the image of a runtime.
            start_budget_s=600.0,
            drain_budget_s=WORKER_DRAIN_S,
        )
        for index, worker_id in enumerate(plan.worker_ids, 1)
    )
    controllers = tuple(
        Part(
            name=_numbered("controller", index, plan.controllers),
            command=_python(
                plan,
                "controller",
                {**common, "LAMBDOCK_LISTEN": plan.listen, "LAMBDOCK_LISTEN_FD": str(plan.listen_fd)},
                pass_fds=(plan.listen_fd,),
            ),
            probe=probes.controller,
            stage=1,
            drain_budget_s=WORKER_DRAIN_S,
        )
        for index in range(1, plan.controllers + 1)
    )
    return (*((redis,) if redis else ()), background, *workers, *controllers)


def worker_ids(count: int, base: str) -> tuple[str, ...]:
    """Return names for workers: `base` itself for one, `base-1`, `base-2`, … for more; the same at each start."""
    return (base,) if count == 1 else tuple(f"{base}-{index}" for index in range(1, count + 1))


def _environment(plan: Plan) -> dict[str, str]:
    return {
        "LAMBDOCK_LOG_LEVEL": "INFO",
        **plan.inherited,
        "LAMBDOCK_STATE_DIR": str(plan.state_dir),
        "LAMBDOCK_CELL": plan.cell,
        "LAMBDOCK_REDIS_URL": plan.redis_url,
        "LAMBDOCK_BLOB_URL": plan.blob_url or (plan.state_dir / "blobs").as_uri(),
    }


def _python(plan: Plan, module: str, env: Mapping[str, str], pass_fds: tuple[int, ...] = ()) -> Command:
    # -P: a folder named `worker` where the command happens to be called must not be taken for ours.
    argv = (sys.executable, "-P", "-m", module)
    return Command(argv=argv, env=env, cwd=plan.state_dir, pass_fds=pass_fds)


def _numbered(name: str, index: int, count: int) -> str:
    return name if count == 1 else f"{name}-{index}"
