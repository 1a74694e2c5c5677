"""The calls on the engine that concern images: look up, pull, build, remove. All block."""

import io
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from typing import Any

import docker.errors
import requests.exceptions

from worker.images.errors import BaseUnavailableError, BuildFailedError

Progress = Callable[[str], None]

#: Lines of a failed build's output that its error carries.
_TAIL_LINES = 15
#: Silence in a build: installing packages over a slow line prints nothing.
_BUILD_SILENCE_S = 600
_ARCHITECTURES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}


def engine_architecture(client: Any) -> str:
    """Return what the engine's machine is in Lambda's words (`x86_64`, `arm64`), or its own word for others."""
    word = str(client.info()["Architecture"])
    return _ARCHITECTURES.get(word, word)


def inspect(client: Any, reference: str) -> dict[str, Any] | None:
    """Return what the engine knows of an image, or None when it hasn't got it."""
    try:
        return dict(client.api.inspect_image(reference))
    except docker.errors.ImageNotFound:
        return None


def labels(image: Mapping[str, Any]) -> dict[str, str]:
    """Return an inspected image's labels."""
    return dict((image.get("Config") or {}).get("Labels") or {})


def architecture(image: Mapping[str, Any]) -> str:
    """Return an inspected image's architecture in Lambda's words."""
    word = str(image.get("Architecture", ""))
    return _ARCHITECTURES.get(word, word)


def registry_has(client: Any, reference: str) -> bool:
    """Ask the image's registry for it, without its content. False: it answers, and has no such image.

    Raises:
        BaseUnavailableError: no answer.
    """
    try:
        client.api.inspect_distribution(reference)
    except docker.errors.NotFound:
        return False
    except docker.errors.APIError as error:
        # Registries hide what doesn't exist behind "denied" and "unauthorized".
        if error.status_code in {401, 403}:
            return False
        raise BaseUnavailableError(f"the registry of {reference} does not answer: {_explain(error)}") from error
    except (requests.exceptions.RequestException, OSError) as error:
        raise BaseUnavailableError(f"the registry of {reference} does not answer: {error}") from error
    return True


def pull(client: Any, reference: str, stop: threading.Event) -> None:
    """Pull an image; raises BaseUnavailableError."""
    repository, _, tag = reference.rpartition(":") if ":" in reference.rpartition("/")[2] else (reference, "", "latest")
    if "@" in reference:
        repository, tag = reference, ""
    try:
        with closing(client.api.pull(repository, tag=tag or None, stream=True, decode=True)) as stream:
            for event in _until(stream, stop):
                if "error" in event:
                    raise BaseUnavailableError(f"{reference} can't be pulled: {str(event['error']).strip()}")
    except (docker.errors.APIError, requests.exceptions.RequestException, OSError) as error:
        raise BaseUnavailableError(f"{reference} can't be pulled: {_explain(error)}") from error


def build(
    client: Any,
    context: bytes,
    tag: str,
    arguments: Mapping[str, str],
    labels: Mapping[str, str],
    stop: threading.Event,
) -> None:
    """Build the context's Dockerfile and tag the result, in one step at the end.

    The engine stops building when `stop` is set, or this process ends.

    Raises:
        BuildFailedError: with the last lines of the output.
    """
    output: list[str] = []
    try:
        events = client.api.build(
            fileobj=io.BytesIO(context),
            custom_context=True,
            tag=tag,
            buildargs=dict(arguments),
            labels=dict(labels),
            rm=True,
            forcerm=True,
            decode=True,
            timeout=_BUILD_SILENCE_S,
        )
        with closing(events) as stream:
            for event in _until(stream, stop):
                output += str(event.get("stream") or event.get("error") or "").splitlines()
                if "error" in event:
                    raise BuildFailedError(_tail(output))
    except (docker.errors.APIError, requests.exceptions.RequestException, OSError) as error:
        raise BuildFailedError(_tail([*output, _explain(error)])) from error
    if stop.is_set():
        raise BuildFailedError(f"building {tag} was cancelled")


def remove(client: Any, reference: str) -> bool:
    """Remove a tag, and the image with its last tag; False when containers still use it, or it is gone."""
    try:
        client.api.remove_image(reference, force=False)
    except docker.errors.APIError as error:
        if error.status_code in {404, 409}:
            return False
        raise
    return True


def _until(stream: Iterator[dict[str, Any]], stop: threading.Event) -> Iterator[dict[str, Any]]:
    for event in stream:
        if stop.is_set():
            return
        yield event


def _tail(output: list[str]) -> str:
    # The builder's own arrows tell nothing but ids.
    lines = [line for line in output if line.strip() and not line.lstrip().startswith("--->")]
    return "\n".join(lines[-_TAIL_LINES:])


def _explain(error: Exception) -> str:
    return str(getattr(error, "explanation", None) or error)
