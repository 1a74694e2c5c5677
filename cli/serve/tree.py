"""Which processes make up the platform, and what each is told by its environment."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cli.serve.process import Command
from cli.serve.supervisor import Part, Probe

#: What the workers get to finish their invocations after SIGTERM.
WORKER_DRAIN_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerPlace:
    """One worker: its name, and the directory that is its alone. Both stay the same through restarts."""

    worker_id: str
    state_dir: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that the processes must know."""

    state_dir: Path
    cell: str
    #: `HOST:PORT` as bound; the controllers inherit the listening socket itself.
    listen: str
    listen_fd: int
    redis_url: str
    workers: tuple[WorkerPlace, ...]
    controllers: int
    blob_url: str | None = None
    inherited: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Probes:
    """How one sees that a controller, and that a worker, is ready."""

    controller: Probe
    worker: Callable[[str], Probe]


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
            name=_numbered("worker", index, len(plan.workers)),
            command=_python(
                plan,
                "worker",
                {
                    **common,
                    "LAMBDOCK_WORKER_ID": place.worker_id,
                    "LAMBDOCK_STATE_DIR": str(place.state_dir),
                },
            ),
            probe=probes.worker(place.worker_id),
            stage=1,
            # The first start may build the image of a runtime.
            start_budget_s=600.0,
            drain_budget_s=WORKER_DRAIN_S,
            stops_with="workers",
        )
        for index, place in enumerate(plan.workers, 1)
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
            stops_with="controllers",
        )
        for index in range(1, plan.controllers + 1)
    )
    return (*((redis,) if redis else ()), background, *workers, *controllers)


def worker_places(count: int, base: str, state_dir: Path) -> tuple[WorkerPlace, ...]:
    """Return where workers are: the first is `base` in the state directory itself, others are `base-2`, `base-3`, ….

    So the first one keeps its logs and its unpacked code when others join or go. Nothing but blobs is shared: each
    unpacks code for itself, since what one evicts another might just be mounting.
    """
    first = WorkerPlace(worker_id=base, state_dir=state_dir)
    others = (
        WorkerPlace(worker_id=f"{base}-{index}", state_dir=state_dir / "workers" / str(index))
        for index in range(2, count + 1)
    )
    return (first, *others)


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
