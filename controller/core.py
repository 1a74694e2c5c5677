"""The controller's services, wired once and shared by the API's and the background's processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from controller.domain.stamp import StampSource, system_stamp
from controller.resources.account.ports import UsageStore
from controller.resources.account.service import AccountService
from controller.resources.concurrency.ports import ReservationStore
from controller.resources.concurrency.service import ConcurrencyService
from controller.resources.functions.heads import HeadPublisher
from controller.resources.functions.lookup import FunctionLookup
from controller.resources.functions.packages import BlobSink
from controller.resources.functions.ports import FunctionDirectory, FunctionStore, PreparationQueue
from controller.resources.functions.preparation import PreparationService
from controller.resources.functions.resolver import Resolver
from controller.resources.functions.service import FunctionService
from controller.resources.versions.ports import VersionStore
from controller.resources.versions.service import VersionService


class Store(FunctionStore, VersionStore, ReservationStore, UsageStore, Protocol):
    """One back-end that keeps everything: `MemoryStore` or `SqlStore`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Core:
    """Everything that the control plane can do, without HTTP."""

    functions: FunctionService
    versions: VersionService
    concurrency: ConcurrencyService
    account: AccountService
    resolver: Resolver
    preparation: PreparationService
    heads: HeadPublisher


def build_core(  # one argument per port
    *,
    store: Store,
    blobs: BlobSink,
    directory: FunctionDirectory,
    queue: PreparationQueue,
    account_concurrency: int,
    stamps: StampSource = system_stamp,
) -> Core:
    """Wire the services to their ports."""
    lookup = FunctionLookup(store, store)
    heads = HeadPublisher(store, directory)
    return Core(
        functions=FunctionService(store=store, lookup=lookup, blobs=blobs, heads=heads, queue=queue, stamps=stamps),
        versions=VersionService(
            functions=store, versions=store, lookup=lookup, heads=heads, queue=queue, stamps=stamps
        ),
        concurrency=ConcurrencyService(
            reservations=store, lookup=lookup, heads=heads, stamps=stamps, account_limit=account_concurrency
        ),
        account=AccountService(usage=store, account_limit=account_concurrency),
        resolver=Resolver(lookup),
        preparation=PreparationService(functions=store, versions=store, heads=heads, stamps=stamps),
        heads=heads,
    )
