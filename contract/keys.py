"""The names of all Redis keys. Only this module and the prelude of the scripts know them (a test compares both)."""

from __future__ import annotations

from typing import Final

#: Keys that live as long as the cell or what they describe, and so have no time to live.
PERMANENT_KEYS: Final = (
    "generation",
    "workers",
    "worker:",
    "engine:",
    "epoch:",
    "function:",
    "account:",
    "idle:",
    "lru:",
    "reserved:",
    "held:",
    "inflight:",
    "inbox:",
    "reply:",
    "event:",
    "events:",
    "rq:",
)


class Keys:
    """Builds the keys of one cell.

    `instance` is one life of a worker process, `{worker}@{epoch}`: what belongs to a dead life can't be mistaken for
    its successor's.
    """

    def __init__(self, cell: str) -> None:
        self.prefix = f"lambdock:{cell}:"

    def generation(self) -> str:
        """String: the run id of the Redis server whose contents all parts have agreed on."""
        return f"{self.prefix}generation"

    def reconciling(self) -> str:
        """Set: who has yet to report since the server changed; dispatch pauses while it exists. Expires."""
        return f"{self.prefix}reconciling"

    def leader(self) -> str:
        """String: the controller that runs the cell's recovery loop, while its lease lasts. Expires."""
        return f"{self.prefix}leader"

    def controllers(self) -> str:
        """Sorted set: controllers that serve, as JSON, by until when that is believed in ms. Expires."""
        return f"{self.prefix}controllers"

    def barrier(self) -> str:
        """String: a write to wait for, behind all that are to be on disk. Expires."""
        return f"{self.prefix}barrier"

    def workers(self) -> str:
        """Set: all instances that own anything, fenced ones included until they are buried."""
        return f"{self.prefix}workers"

    def worker(self, instance: str) -> str:
        """Hash: engine, epoch, state (live, draining, fenced), placeable, heartbeat_ms, info."""
        return f"{self.prefix}worker:{instance}"

    def epoch(self, worker: str) -> str:
        """Counter: the last epoch given to this worker name."""
        return f"{self.prefix}epoch:{worker}"

    def engine(self, engine_id: str) -> str:
        """Hash: total_mb, reserved_mb; shared by the workers of one engine."""
        return f"{self.prefix}engine:{engine_id}"

    def function(self, uid: str) -> str:
        """Hash: generation (-1 once deleted), reserved (-1 for none), account, `gone:{version}` for deleted ones."""
        return f"{self.prefix}function:{uid}"

    def account(self, account: str, region: str) -> str:
        """Hash: limit, reserved_total."""
        return f"{self.prefix}account:{account}:{region}"

    def idle(self, version_key: str) -> str:
        """List: an instance per idle environment of this version, most recently used first."""
        return f"{self.prefix}idle:{version_key}"

    def lru(self, instance: str) -> str:
        """Sorted set: version keys with idle tokens of this instance, by last use in ms."""
        return f"{self.prefix}lru:{instance}"

    def reserved(self, instance: str) -> str:
        """Hash: environment id to memory in MB, for each environment that lives or starts."""
        return f"{self.prefix}reserved:{instance}"

    def held(self, instance: str) -> str:
        """Set: ids of the invocations that this instance holds."""
        return f"{self.prefix}held:{instance}"

    def inflight_function(self, uid: str) -> str:
        """Sorted set: invocation ids in flight of a function, by admission time in ms."""
        return f"{self.prefix}inflight:function:{uid}"

    def inflight_unreserved(self, account: str, region: str) -> str:
        """Sorted set: invocation ids charged to the account's unreserved pool."""
        return f"{self.prefix}inflight:unreserved:{account}:{region}"

    def invocation(self, invocation_id: str) -> str:
        """Hash: who runs it, for whom, charged to what; after completion a tombstone that expires."""
        return f"{self.prefix}invocation:{invocation_id}"

    def inbox(self, instance: str) -> str:
        """Stream: messages to an instance."""
        return f"{self.prefix}inbox:{instance}"

    def reply(self, controller: str) -> str:
        """Stream: answers to a controller process."""
        return f"{self.prefix}reply:{controller}"

    def event(self, event_id: str) -> str:
        """Hash: one accepted asynchronous event, until it is acknowledged."""
        return f"{self.prefix}event:{event_id}"

    def events(self, function_uid: str) -> str:
        """List: ids of a function's queued events, oldest first."""
        return f"{self.prefix}events:queue:{function_uid}"

    def events_ready(self) -> str:
        """Sorted set: functions with queued events, by when to try next in ms."""
        return f"{self.prefix}events:ready"

    def events_claimed(self) -> str:
        """Sorted set: event ids that a controller is about to dispatch, by when that claim ends in ms."""
        return f"{self.prefix}events:claimed"

    def events_wake(self) -> str:
        """List: a bounded number of nudges for the controllers that wait for events."""
        return f"{self.prefix}events:wake"

    def doors(self) -> str:
        """Sorted set: addresses of the controllers' side doors, by until when they are announced in ms. Expires."""
        return f"{self.prefix}doors"

    def door_token(self) -> str:
        """String: what opens all side doors of the cell. Expires an hour after the last controller has gone."""
        return f"{self.prefix}door-token"
