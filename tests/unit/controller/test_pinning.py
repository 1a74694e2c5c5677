"""That a function of an image by tag means one image, whatever the tag means later, through crashes at any point."""

from __future__ import annotations

from typing import Any

import pytest

from contract.images import pushed_uri
from controller.domain.arn import FunctionIdentifier
from controller.domain.errors import InvalidParameterValueError
from controller.domain.function import PreparationFailure, State, UpdateStatus
from controller.domain.release import FoundImage, Image
from controller.images.ports import PushedImage
from controller.resources.functions.code import ImageSource
from controller.resources.functions.service import NewConfiguration
from controller.resources.versions.service import Publication
from tests.fakes.control_plane import ACCOUNT, NAME, REGION, ControlPlane

TAG = ImageSource(uri="registry.example:5000/team/app:latest")
DENIED = PreparationFailure(reason_code="ImageAccessDenied", reason="the registry says no")


def image(letter: str) -> FoundImage:
    return FoundImage(uri=f"registry.example:5000/team/app@sha256:{letter * 64}", size_bytes=7)


@pytest.fixture
async def world() -> ControlPlane:
    made = ControlPlane()
    await made.create(TAG)
    return made


async def launched(world: ControlPlane, qualifier: str | None = None) -> str:
    resolved = await world.core.resolver.resolve(ACCOUNT, REGION, FunctionIdentifier(name="f", qualifier=qualifier))
    resolved.check_invocable()
    return resolved.launch.image_uri


async def target(world: ControlPlane, at: int = 0) -> Any:
    return await world.core.preparation.preparation_target(*world.queue.jobs[at])


async def test_the_first_worker_gets_the_tag_and_invocations_the_digest(world: ControlPlane) -> None:
    launch = await target(world)
    assert (launch.image_uri, launch.runtime, launch.handler, launch.code_sha256) == (TAG.uri, "", "", "")

    await world.finish(found=image("a"))

    assert await launched(world) == image("a").uri
    assert (await world.function()).head.release.code == Image(
        uri=TAG.uri, resolved_uri=image("a").uri, size_bytes=image("a").size_bytes
    )


@pytest.mark.parametrize("found", [None, FoundImage(uri=TAG.uri)])
async def test_an_answer_that_names_no_digest_settles_nothing(world: ControlPlane, found: FoundImage | None) -> None:
    job = world.queue.jobs[0]

    with pytest.raises(ValueError, match="without saying which digest"):
        await world.core.preparation.finish_preparation(*job, None, found)

    assert (await world.function()).head.state is State.PENDING
    assert (await target(world)).image_uri == TAG.uri


async def test_a_second_answer_that_found_another_image_comes_too_late(world: ControlPlane) -> None:
    job = world.queue.jobs[0]
    world.directory.failure = ConnectionError("away")
    with pytest.raises(ConnectionError):
        await world.core.preparation.finish_preparation(*job, None, image("a"))
    world.directory.failure = None

    # Whoever asks again hears of the first one's find, and so does admission.
    assert (await target(world)).image_uri == image("a").uri
    await world.core.preparation.finish_preparation(*job, None, image("b"))

    assert await launched(world) == image("a").uri


async def test_new_settings_keep_the_image(world: ControlPlane) -> None:
    await world.finish(found=image("a"))
    await world.core.functions.update_configuration(
        ACCOUNT, REGION, NAME, NewConfiguration(change=lambda settings: settings)
    )

    assert (await target(world)).image_uri == image("a").uri
    await world.finish(found=image("b"))

    assert await launched(world) == image("a").uri


async def test_new_code_by_the_same_tag_is_looked_up_anew(world: ControlPlane) -> None:
    await world.finish(found=image("a"))
    await world.update(TAG)

    assert (await target(world)).image_uri == TAG.uri
    assert await launched(world) == image("a").uri
    await world.finish(found=image("b"))

    assert await launched(world) == image("b").uri


async def test_a_failure_says_why_and_the_image_before_stays_live(world: ControlPlane) -> None:
    await world.finish(found=image("a"))
    await world.update(TAG)
    await world.finish(DENIED)

    head = (await world.function()).head
    assert (head.state, head.update_status, head.update_reason) == (State.ACTIVE, UpdateStatus.FAILED, DENIED)
    assert await launched(world) == image("a").uri


async def test_a_new_function_whose_image_can_t_be_pulled_is_failed_and_may_be_mended(world: ControlPlane) -> None:
    await world.finish(DENIED)
    assert ((await world.function()).head.state, (await world.function()).head.state_reason) == (State.FAILED, DENIED)

    await world.update(TAG)
    await world.finish(found=image("a"))

    assert await launched(world) == image("a").uri


async def published() -> ControlPlane:
    world = ControlPlane()
    await world.create(TAG, publish=True)
    return world


async def test_a_version_that_is_published_with_the_head_has_the_head_s_image() -> None:
    world = await published()
    head, version = world.queue.jobs
    assert await target(world, 1) is None  # It waits for the head's.

    await world.core.preparation.finish_preparation(*head, None, image("a"))
    assert (await world.core.preparation.preparation_target(*version)).image_uri == image("a").uri  # type: ignore[union-attr]
    await world.core.preparation.finish_preparation(*version, None, image("b"))

    assert await launched(world) == await launched(world, "1") == image("a").uri


async def test_a_crash_between_head_and_version_gives_them_no_two_images() -> None:
    world = await published()
    head, version = world.queue.jobs
    replace = world.store.replace_version

    async def crash(*_: object) -> bool:
        raise ConnectionError("away")

    world.store.replace_version = crash  # type: ignore[method-assign]
    with pytest.raises(ConnectionError):
        await world.core.preparation.finish_preparation(*head, None, image("a"))
    world.store.replace_version = replace  # type: ignore[method-assign]
    assert await world.core.preparation.preparation_target(*version) is None

    await world.core.preparation.finish_preparation(*head, None, image("b"))
    await world.core.preparation.finish_preparation(*version, None, image("c"))

    assert await launched(world) == await launched(world, "1") == image("a").uri


async def test_a_version_is_looked_up_by_itself_when_the_head_has_failed() -> None:
    world = await published()
    head, version = world.queue.jobs
    await world.core.preparation.finish_preparation(*head, DENIED)

    launch = await world.core.preparation.preparation_target(*version)
    assert launch is not None
    assert launch.image_uri == TAG.uri
    await world.core.preparation.finish_preparation(*version, None, image("c"))

    assert await launched(world, "1") == image("c").uri


async def test_publishing_what_was_published_with_the_head_gives_the_same_version() -> None:
    world = await published()
    for job in world.queue.jobs:
        await world.core.preparation.finish_preparation(*job, None, image("a"))

    again = await world.core.versions.publish(ACCOUNT, REGION, NAME, Publication())
    assert again.version.version == "1"

    # The same tag, another image: something to publish.
    world.queue.jobs.clear()
    await world.update(TAG)
    await world.finish(found=image("b"))
    other = await world.core.versions.publish(ACCOUNT, REGION, NAME, Publication())

    assert other.version.version == "2"
    assert (other.version.state, await launched(world, "2")) == (State.ACTIVE, image("b").uri)


async def test_a_pushed_image_is_pinned_by_its_name() -> None:
    world = ControlPlane()
    pushed = PushedImage(
        account=ACCOUNT,
        name="app",
        manifest_sha256="d" * 64,
        config_sha256="e" * 64,
        architecture="x86_64",
        size_bytes=5,
        pushed_at=world.stamps().at,
    )
    await world.images.add(pushed)
    await world.create(ImageSource(uri=pushed.uri))
    await world.finish()

    resolved = await world.core.resolver.resolve(ACCOUNT, REGION, NAME)
    assert (resolved.launch.image_uri, resolved.launch.image_manifest) == (pushed.uri, "d" * 64)


async def test_an_image_that_another_account_has_pushed_is_not_there() -> None:
    world = ControlPlane()
    pushed = PushedImage(
        account="111111111111",
        name="app",
        manifest_sha256="d" * 64,
        config_sha256="e" * 64,
        architecture="x86_64",
        size_bytes=5,
        pushed_at=world.stamps().at,
    )
    await world.images.add(pushed)

    with pytest.raises(InvalidParameterValueError, match="does not exist"):
        await world.create(ImageSource(uri=pushed.uri))


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        (pushed_uri("app", "d" * 64), "does not exist"),
        ("pushed.lambdock/app:latest", "is not valid"),
        ("app; rm -rf /", "is not valid"),
        ("App:latest", "is not valid"),
        ("host/app@sha256:abc", "is not valid"),
        ("a" * 2000, "is not valid"),
    ],
)
async def test_an_image_that_can_t_be_is_refused_at_once(uri: str, text: str) -> None:
    world = ControlPlane()

    with pytest.raises(InvalidParameterValueError, match=text):
        await world.create(ImageSource(uri=uri))

    assert await world.store.get(ACCOUNT, REGION, "f") is None


@pytest.mark.parametrize(
    "uri",
    [
        "app",
        "registry.example:5000/a/b__c.d-e:v1.0_x",
        "public.ecr.aws/lambda/python:3.13",
        f"[::1]:5000/app@sha256:{'0' * 64}",
        f"localhost/app:tag@sha256:{'0' * 64}",
    ],
)
async def test_every_form_of_a_reference_is_taken(uri: str) -> None:
    world = ControlPlane()
    await world.create(ImageSource(uri=uri))
    assert (await target(world)).image_uri == uri
