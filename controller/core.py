"""The controller's services, wired once and shared by the API's and the background's processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from contract.blobs.store import BlobStore
from controller.background.references import BlobReferences
from controller.domain.stamp import StampSource, system_stamp
from controller.images.service import ImageService
from controller.packages.intake import PackageIntake
from controller.resources.account.ports import UsageStore
from controller.resources.account.service import AccountService
from controller.resources.concurrency.ports import ReservationStore
from controller.resources.concurrency.service import ConcurrencyService
from controller.resources.functions.code import CodeIntake
from controller.resources.functions.heads import HeadPublisher
from controller.resources.functions.lookup import FunctionLookup
from controller.resources.functions.ports import FunctionDirectory, FunctionStore, PreparationQueue
from controller.resources.functions.preparation import PreparationService
from controller.resources.functions.resolver import Resolver
from controller.resources.functions.service import FunctionService
from controller.resources.layers.ports import LayerStore
from controller.resources.layers.service import LayerService
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
    layers: LayerService
    images: ImageService
    resolver: Resolver
    preparation: PreparationService
    references: BlobReferences
    heads: HeadPublisher


def build_core(  # noqa: PLR0913 - one argument per port
    *,
    store: Store,
    layer_store: LayerStore,
    images: ImageService,
    blobs: BlobStore,
    packages: PackageIntake,
    directory: FunctionDirectory,
    queue: PreparationQueue,
    account_concurrency: int,
    stamps: StampSource = system_stamp,
) -> Core:
    """Wire the services to their ports."""
    lookup = FunctionLookup(store, store)
    heads = HeadPublisher(store, directory)
    layers = LayerService(store=layer_store, packages=packages, stamps=stamps)
    code = CodeIntake(packages=packages, layers=layers, images=images)
    return Core(
        functions=FunctionService(store=store, lookup=lookup, code=code, heads=heads, queue=queue, stamps=stamps),
        versions=VersionService(
            functions=store, versions=store, lookup=lookup, heads=heads, queue=queue, stamps=stamps
        ),
        concurrency=ConcurrencyService(
            reservations=store, lookup=lookup, heads=heads, stamps=stamps, account_limit=account_concurrency
        ),
        account=AccountService(usage=store, layers=layers, account_limit=account_concurrency),
        layers=layers,
        images=images,
        resolver=Resolver(lookup),
        preparation=PreparationService(functions=store, versions=store, heads=heads, stamps=stamps),
        references=BlobReferences(functions=store, layers=layers, images=images, blobs=blobs),
        heads=heads,
    )
