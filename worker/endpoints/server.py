"""Serves, inside each sandbox, what its function reaches through the worker."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from contract.launch import LaunchSpec
from worker.endpoints.accepting import Acceptor, Make
from worker.endpoints.connection import Callers, FunctionConnection, Sender
from worker.endpoints.pipes import Pipe, Pipes, Reachability
from worker.endpoints.setting import EndpointPlan, Target, variables_for

#: Of one sandbox to the Lambda API, and as many to the operator's endpoints together. More wait for one to end.
MAX_CONNECTIONS: Final = 64


class FunctionEndpoints:
    """What all sandboxes of a worker reach through it. Used in one event loop."""

    def __init__(self, plan: EndpointPlan, sender: Sender) -> None:
        """`sender` passes requests on to the Lambda API."""
        self._plan = plan
        self._sender = sender
        self._reachability = Reachability()

    @property
    def listeners(self) -> tuple[tuple[str, int], ...]:
        """The addresses to listen at inside a sandbox, for `serve`."""
        return self._plan.listeners

    @property
    def names(self) -> Mapping[str, str]:
        """The names to resolve inside a sandbox."""
        return self._plan.names

    def variables_for(self, own: Mapping[str, str]) -> dict[str, str]:
        """Return the variables by which a function finds them, given those that it sets itself."""
        return variables_for(self._plan.variables, own)

    def serve(self, listeners: Sequence[socket.socket], launch: LaunchSpec) -> SandboxEndpoints:
        """Begin to serve one sandbox. Takes microseconds; the listeners, in the order of `listeners`, are its own now.

        Every request to the Lambda API that comes by them is made in the name of the function of `launch`.
        """
        return SandboxEndpoints(self._plan, self._sender, self._reachability, listeners, launch)


class SandboxEndpoints:
    """What one sandbox reaches through the worker, until `close`."""

    def __init__(
        self,
        plan: EndpointPlan,
        sender: Sender,
        reachability: Reachability,
        listeners: Sequence[socket.socket],
        launch: LaunchSpec,
    ) -> None:
        loop = asyncio.get_running_loop()
        arn = f"arn:aws:lambda:{launch.region}:{launch.account}:function:{launch.function_name}"
        callers = Callers(sender, arn, loop)
        pipes = Pipes(loop, reachability)

        def call(on_end: Callable[[], None]) -> asyncio.Protocol:
            return FunctionConnection(callers, on_end)

        def pipe_to(target: Target) -> Make:
            return lambda on_end: Pipe(pipes, target, on_end).function

        self._callers = callers
        self._pipes = pipes
        lambda_api, *others = listeners
        piped = [(listener, pipe_to(target)) for listener, target in zip(others, plan.pipes.values(), strict=True)]
        self._acceptors = [
            Acceptor(loop, [(lambda_api, call)], limit=MAX_CONNECTIONS),
            Acceptor(loop, piped, limit=MAX_CONNECTIONS),
        ]

    def close(self) -> None:
        """Stop, drop all connections, and give up what is under way. Idempotent."""
        for acceptor in self._acceptors:
            acceptor.close()
        self._callers.close()
        self._pipes.close()
