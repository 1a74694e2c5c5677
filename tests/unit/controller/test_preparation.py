"""How functions become Active and updates Successful, through crashes at any point."""

from __future__ import annotations

import asyncio

import pytest

from controller.domain.arn import LATEST, FunctionIdentifier
from controller.domain.errors import PlatformError, ResourceConflictError
from controller.domain.function import PreparationFailure, State, UpdateStatus
from controller.resources.versions.service import Publication
from tests.fakes.control_plane import ACCOUNT, NAME, REGION, ControlPlane

FAILURE = PreparationFailure(reason_code="InvalidRuntime", reason="no image")


@pytest.fixture
async def world() -> ControlPlane:
    made = ControlPlane()
    await made.create()
    return made


async def test_the_stored_uids_are_those_of_living_functions(world: ControlPlane) -> None:
    uid = (await world.function()).uid
    assert await world.core.preparation.stored_uids() == {uid}
    await world.core.functions.delete(ACCOUNT, REGION, NAME)
    assert await world.core.preparation.stored_uids() == set()


async def test_a_new_function_is_invocable_once_prepared(world: ControlPlane) -> None:
    pending = await world.core.resolver.resolve(ACCOUNT, REGION, NAME)
    with pytest.raises(ResourceConflictError, match="Pending"):
        pending.check_invocable()

    await world.finish()

    resolved = await world.core.resolver.resolve(ACCOUNT, REGION, NAME)
    resolved.check_invocable()
    assert (resolved.launch.generation, resolved.executed_version) == (1, LATEST)
    assert resolved.launch.version_key == f"{resolved.launch.function_uid}:$LATEST:1"
    assert resolved.launch_json == resolved.launch.to_json()
    assert resolved.function_arn == "arn:aws:lambda:us-east-1:000000000000:function:f"


async def test_the_old_release_serves_until_the_new_one_is_prepared(world: ControlPlane) -> None:
    await world.finish()
    old = await world.core.resolver.resolve(ACCOUNT, REGION, NAME)
    await world.update()

    target = await world.core.preparation.preparation_target(*world.queue.jobs[0])
    assert target is not None
    assert (target.generation, target.version_key[-2:]) == (2, ":2")
    assert await world.core.resolver.resolve(ACCOUNT, REGION, NAME) == old

    await world.finish()
    assert (await world.core.resolver.resolve(ACCOUNT, REGION, NAME)).launch == target
    assert await world.generation() == 2


async def test_a_failed_update_keeps_the_old_release_and_generation(world: ControlPlane) -> None:
    await world.finish()
    old = await world.core.resolver.resolve(ACCOUNT, REGION, NAME)
    await world.update()

    await world.finish(FAILURE)

    assert await world.core.resolver.resolve(ACCOUNT, REGION, NAME) == old
    assert (await world.function()).head.update_reason == FAILURE
    assert await world.generation() == 1


async def test_a_preparation_may_finish_twice_and_late(world: ControlPlane) -> None:
    job = world.queue.jobs[0]
    await world.finish()
    await world.update()

    await world.core.preparation.finish_preparation(*job, FAILURE)

    assert await world.core.preparation.preparation_target(*job) is None
    assert (await world.function()).head.state is State.ACTIVE
    assert (await world.function()).head.update_status is UpdateStatus.IN_PROGRESS


async def test_success_is_not_told_before_admission_knows(world: ControlPlane) -> None:
    await world.finish()
    await world.update()
    world.directory.failure = ConnectionError("away")

    with pytest.raises(ConnectionError):
        await world.core.preparation.finish_preparation(*world.queue.jobs[0], None)

    assert (await world.function()).head.update_status is UpdateStatus.IN_PROGRESS
    (left,) = await world.core.preparation.list_unprepared()
    world.directory.failure = None
    await world.core.preparation.finish_preparation(left.function_uid, left.version, left.revision_id, None)
    assert (await world.function()).head.update_status is UpdateStatus.SUCCESSFUL


async def test_after_a_crash_between_admission_and_sql_a_later_failure_cannot_turn_back(world: ControlPlane) -> None:
    await world.finish()
    await world.update()
    job = world.queue.jobs[0]
    real = world.store.replace
    calls = 0

    async def crashing(*arguments: object) -> bool:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise ConnectionError("killed")
        return await real(*arguments)  # type: ignore[arg-type]

    world.store.replace = crashing  # type: ignore[method-assign, assignment]
    with pytest.raises(ConnectionError):
        await world.core.preparation.finish_preparation(*job, None)
    assert await world.generation() == 2

    await world.core.preparation.finish_preparation(*job, FAILURE)

    function = await world.function()
    assert (function.generation, function.head.update_status) == (2, UpdateStatus.SUCCESSFUL)


async def test_a_lost_queue_loses_no_preparation() -> None:
    world = ControlPlane()
    world.queue.failure = ConnectionError("away")
    world.directory.failure = ConnectionError("away")
    await world.create()

    (left,) = await world.core.preparation.list_unprepared()
    world.directory.failure = None
    await world.core.preparation.finish_preparation(left.function_uid, left.version, left.revision_id, None)

    assert (await world.function()).head.state is State.ACTIVE
    assert await world.generation() == 1


async def test_a_reservation_while_a_preparation_runs_disturbs_neither(world: ControlPlane) -> None:
    await world.finish()
    await world.update()
    await world.core.concurrency.put(ACCOUNT, REGION, NAME, 5)

    await world.finish()

    function = await world.function()
    assert (function.generation, function.reserved_concurrency) == (2, 5)
    head = world.directory.heads[function.uid]
    assert (head.generation, head.reserved_concurrency) == (2, 5)


async def test_concurrent_reservations_leave_store_and_admission_agreed(world: ControlPlane) -> None:
    await world.finish()

    await asyncio.gather(*(world.core.concurrency.put(ACCOUNT, REGION, NAME, wanted) for wanted in range(10)))

    function = await world.function()
    assert world.directory.heads[function.uid].reserved_concurrency == function.reserved_concurrency


async def test_a_function_deleted_while_being_prepared_stays_deleted(world: ControlPlane) -> None:
    job = world.queue.jobs[0]
    await world.core.functions.delete(ACCOUNT, REGION, NAME)

    await world.core.preparation.finish_preparation(*job, None)

    assert world.directory.heads == {}
    assert [head async for head in world.core.heads.list_heads()] == []


async def test_published_versions_share_the_functions_limits_and_have_keys_of_their_own(world: ControlPlane) -> None:
    await world.finish()
    await world.core.versions.publish(ACCOUNT, REGION, NAME, Publication())
    await world.update()
    await world.finish()

    resolved = await world.core.resolver.resolve(ACCOUNT, REGION, FunctionIdentifier(name="f", qualifier="1"))

    assert resolved.launch.version_key == f"{resolved.launch.function_uid}:1"
    assert (resolved.launch.generation, resolved.executed_version) == (2, "1")
    assert resolved.function_arn.endswith(":f:1")
    assert len([head async for head in world.core.heads.list_heads()]) == 1
    assert len(await world.core.references.referenced_blobs()) == 2


async def test_a_change_that_never_wins_the_race_is_a_platform_error(world: ControlPlane) -> None:
    async def never(*_arguments: object) -> bool:
        return False

    world.store.replace = never  # type: ignore[method-assign, assignment]
    with pytest.raises(PlatformError, match="concurrent changes"):
        await world.core.preparation.finish_preparation(*world.queue.jobs[0], FAILURE)


async def test_the_second_of_two_equal_answers_is_no_news(world: ControlPlane) -> None:
    job = world.queue.jobs[0]
    assert await world.core.preparation.finish_preparation(*job, None)
    revision_id = (await world.function()).head.revision_id
    assert not await world.core.preparation.finish_preparation(*job, None)
    assert (await world.function()).head.revision_id == revision_id
