"""The calls on the engine for functions' images: ask registries, pull, load, name, remove. All block."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

import docker.errors
import requests.exceptions

from worker.images.errors import ImageUnavailableError

DENIED: Final = "ImageAccessDenied"
INVALID: Final = "InvalidImage"
DELETED: Final = "ImageDeleted"

#: How engines say what a registry lacks, and that it wants credentials, where they do not pass its status on.
_UNKNOWN: Final = ("manifest unknown", "name unknown", "blob unknown", "unknown blob")
_UNAUTHORIZED: Final = ("no basic auth", "unauthorized", "denied", "authentication required")


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What a registry has under a name."""

    #: `sha256:…` of its manifest.
    digest: str
    #: Operating system and architecture of each variant, in the registry's words; may be unknown.
    platforms: tuple[tuple[str, str], ...]


def look_up(client: Any, name: str, shown: str) -> Offer:
    """Ask the registry what `name` means now. Raises ImageUnavailableError, which calls the image `shown`."""
    try:
        # Log-ins since the last time, and tokens that were renewed.
        client.api.reload_config()
        found = client.api.inspect_distribution(name)
        platforms = [(item.get("os", ""), item.get("architecture", "")) for item in found.get("Platforms") or ()]
        return Offer(digest=str(found["Descriptor"]["digest"]), platforms=tuple(platforms))
    except (docker.errors.DockerException, requests.exceptions.RequestException, OSError) as error:
        raise _unavailable(error, shown, is_pinned="@" in name) from error


def pull(client: Any, pinned: str, platform: str, shown: str, stop: threading.Event) -> None:
    """Pull an image by its digest. Raises ImageUnavailableError."""
    try:
        client.api.reload_config()
        with closing(client.api.pull(pinned, stream=True, decode=True, platform=platform)) as stream:
            for event in stream:
                if stop.is_set():
                    return
                if "error" in event:
                    raise docker.errors.DockerException(str(event["error"]).strip())
    except (docker.errors.DockerException, requests.exceptions.RequestException, OSError) as error:
        raise _unavailable(error, shown, is_pinned=True) from error


def load(client: Any, archive: Iterator[bytes], shown: str) -> None:
    """Load a `docker save` archive, with the names that it gives. Raises ImageUnavailableError."""
    try:
        for event in client.api.load_image(archive, quiet=False):
            if "error" in event:
                raise docker.errors.DockerException(str(event["error"]).strip())
    except (docker.errors.DockerException, requests.exceptions.RequestException) as error:
        raise ImageUnavailableError(INVALID, f"The engine can't load image {shown}: {explain(error)}.") from error


def name(client: Any, image: str, repository: str, tag: str) -> None:
    """Give an image a further name. Giving it again renews the engine's `LastTagTime`."""
    client.api.tag(image, repository, tag)


def unname(client: Any, reference: str) -> bool:
    """Take a name away, and with its last name an image that no container uses. False: it stays, or was gone."""
    try:
        client.api.remove_image(reference, force=False, noprune=False)
    except docker.errors.APIError as error:
        if error.status_code in {404, 409}:
            return False
        raise
    return True


def named(client: Any, repository: str) -> Sequence[str]:
    """Return the names of a repository's images, as `repository:tag`."""
    listed = client.api.images(name=repository)
    return [tag for image in listed for tag in image.get("RepoTags") or () if tag.rpartition(":")[0] == repository]


def explain(error: Exception) -> str:
    """Return the engine's own words."""
    return str(getattr(error, "explanation", None) or error).strip().rstrip(".")


def _unavailable(error: Exception, shown: str, *, is_pinned: bool) -> ImageUnavailableError:
    words = explain(error)
    status = getattr(error, "status_code", None)
    has_no_variant = "no matching manifest" in words
    if status == 404 or has_no_variant or any(word in words for word in _UNKNOWN):
        if is_pinned and not has_no_variant:
            return ImageUnavailableError(
                DELETED, f"Source image {shown} does not exist any more. Push it again, or update the function."
            )
        return ImageUnavailableError(
            INVALID,
            f"Source image {shown} does not exist. Provide a valid source image. ({words}. An image that only your"
            " engine has can be used after: lambdock push IMAGE)",
        )
    if status in {401, 403} or any(word in words for word in _UNAUTHORIZED):
        return ImageUnavailableError(
            DENIED,
            f"Lambda does not have permission to access image {shown}: {words}. Log in to its registry as the user"
            " that the worker runs as (docker login), and deploy again.",
        )
    if status == 400:
        return ImageUnavailableError(
            INVALID, f"Source image {shown} is not valid. Provide a valid source image. ({words})"
        )
    return ImageUnavailableError(
        DENIED,
        f"Image {shown} can't be had from its registry: {words}. Without one, push the image to Lambdock itself:"
        " lambdock push IMAGE",
    )
