"""A deleted version is refused from the moment that its deletion is reported."""

from __future__ import annotations

from contract.bus.operations import Completion, Verdict
from tests.integration.bus.cell import Cell


async def test_a_deleted_version_is_stale_for_dispatch_and_its_tokens_go(cell: Cell) -> None:
    worker = await cell.worker()
    function = await cell.function()
    await cell.dispatch(function, "i")
    await worker.read()
    await worker.complete("i")

    assert await cell.operations.retire_version(function.uid, function.version)

    assert (await cell.operations.dispatch(cell.request(function, "j"))).verdict is Verdict.STALE
    assert await cell.tokens(function.version) == []
    assert (await cell.inbox(worker))[-1] == {"t": b"retire", "v": function.version.encode()}


async def test_an_invocation_that_ran_while_its_version_was_deleted_leaves_no_idle_environment(cell: Cell) -> None:
    worker = await cell.worker()
    function = await cell.function()
    await cell.dispatch(function, "i")
    await worker.read()

    await cell.operations.retire_version(function.uid, function.version)

    assert await worker.complete("i") is Completion.DESTROY
    assert await cell.tokens(function.version) == []


async def test_deleting_a_version_of_an_unknown_function_changes_nothing(cell: Cell) -> None:
    before = await cell.all_keys()

    assert not await cell.operations.retire_version("nobody", "nobody:1")

    assert await cell.all_keys() == before
