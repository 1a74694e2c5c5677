"""`lambdock push` and `lambdock images`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table
from rich.text import Text

from cli import output
from cli.images.api import Images
from cli.images.source import Source, open_source

#: Told of every piece that was sent, and of the end (0).
Sent = Callable[[int], None]


def push_image(
    image: str,
    endpoint: str,
    region: str | None,
    *,
    name: str | None = None,
    wanted: str | None = None,
    is_quiet: bool = False,
) -> dict[str, Any]:
    """Push an image, with a progress bar on a terminal unless quiet; return what the platform says of it.

    One that the account has pushed before, under the same name, is not sent again. Raises CliError.
    """
    source = open_source(image)
    images = Images(endpoint, region)
    name = name or source.name
    if source.image_id and (found := _pushed_before(images, source.image_id, name)):
        return found
    with _no_progress() if is_quiet else _progress(source) as sent:

        def counted() -> Iterator[bytes]:
            for piece in source.read():
                yield piece
                sent(len(piece))
            sent(0)

        return images.push(counted(), name=name, wanted=wanted)


def print_push(
    image: str, endpoint: str, region: str | None, *, name: str | None, wanted: str | None, is_json: bool
) -> None:
    """Push an image, and print its URI."""
    pushed = push_image(image, endpoint, region, name=name, wanted=wanted)
    if is_json:
        output.machine(pushed)
        return
    output.note(f"Pushed {pushed.get('Name')} ({_megabytes(pushed)}, {pushed.get('Architecture')})", "green")
    output.say(str(pushed.get("ImageUri")))
    output.note("Run it:  aws lambda create-function --package-type Image --code ImageUri=URI …")


def print_images(endpoint: str, region: str | None, *, is_json: bool) -> None:
    """Print every image, by name; as JSON, one a line."""
    images = list(Images(endpoint, region).list())
    if is_json:
        for image in images:
            output.machine(image)
        return
    if not images:
        output.note("No images yet. Push one of your engine's with: lambdock push IMAGE")
        return
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="bold")
    for column in ("IMAGE", "SIZE", "ARCHITECTURE", "PUSHED"):
        # A URI is to be copied: it is never cut.
        table.add_column(column, overflow="fold" if column == "IMAGE" else "ellipsis")
    for image in images:
        pushed_at = str(image.get("PushedAt", ""))[:19].replace("T", " ")
        cells = (str(image.get("ImageUri")), _megabytes(image), str(image.get("Architecture")), pushed_at)
        table.add_row(*(Text(output.printable(cell)) for cell in cells))
    output.console().print(table)


def remove_image(uri: str, endpoint: str, region: str | None) -> None:
    """Remove an image, and say so."""
    Images(endpoint, region).remove(uri)
    output.say(f"Removed {uri}. Functions that use it go on.")


def _pushed_before(images: Images, image_id: str, name: str | None) -> dict[str, Any] | None:
    for image in images.list():
        if image.get("ImageId") == image_id and image.get("Name") == name:
            return image
    return None


@contextmanager
def _no_progress() -> Iterator[Sent]:
    yield lambda _: None


@contextmanager
def _progress(source: Source) -> Iterator[Sent]:
    terminal = output.console(stderr=True)
    if not terminal.is_terminal:
        yield lambda _: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=terminal, transient=True) as progress:
        task = progress.add_task("Sending", total=source.size_bytes or None)

        def sent(size_bytes: int) -> None:
            if size_bytes:
                progress.advance(task, size_bytes)
            else:
                progress.update(task, description="Checking and storing", total=None)

        yield sent


def _megabytes(image: dict[str, Any]) -> str:
    return f"{int(image.get('SizeBytes') or 0) / 2**20:.1f} MB"
