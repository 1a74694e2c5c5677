"""`lambdock deploy` from folder to ARN."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from cli import output
from cli.client import aws_errors, lambda_client
from cli.deploy.image import is_local
from cli.deploy.manifest import Manifest, read_manifest
from cli.deploy.package import build_package
from cli.errors import UsageError


def deploy_directory(directory: Path, options: Manifest, *, endpoint: str, region: str | None, is_json: bool) -> None:
    """Create or update the function in `directory`, and print its ARN and how to invoke it.

    Raises: `UsageError` for bad input, before anything is sent; `CliError` with AWS's code and message.
    """
    if not directory.is_dir():
        raise UsageError(f"{directory} is not a folder" if directory.exists() else f"there is no folder {directory}")
    manifest = options.over(read_manifest(directory)).over(Manifest(name=directory.resolve().name))
    manifest.check()
    client = lambda_client(endpoint, region=region)

    # After lambda_client, which says so where boto3 is missing.
    from cli.deploy.deployer import Archive, ContainerImage, Deployer
    from cli.deploy.layers import LayerPublisher, pack_layers

    is_live = not is_json and output.console(stderr=True).is_terminal
    with _status("Packing", is_live=is_live):
        archives = pack_layers(manifest)
        package = None if manifest.image is not None else build_package(directory, without=archives)
    # Pushing shows a bar of its own.
    code = (
        ContainerImage(_image_uri(manifest.image or "", endpoint, region, is_quiet=is_json))
        if package is None
        else Archive(package)
    )
    with aws_errors(endpoint), _status("Asking the platform", is_live=is_live) as progress:
        layers = LayerPublisher(client, progress).publish(manifest, archives)
        deployment = Deployer(client, progress).deploy(manifest, code, layers)
    if is_json:
        output.machine(asdict(deployment))
        return
    what = deployment.image_uri if package is None else f"{len(package) / 1024:.1f} KB"
    output.note(f"{deployment.outcome.capitalize()} ({what})", "green")
    output.say(deployment.arn)
    output.note(f"Invoke it:  lambdock invoke {deployment.name}")


def _image_uri(image: str, endpoint: str, region: str | None, *, is_quiet: bool) -> str:
    """Return the ImageUri that means `image`, pushing it to the platform when it is the local engine's."""
    if not is_local(image):
        return image
    from cli.images.command import push_image

    return str(push_image(image, endpoint, region, is_quiet=is_quiet)["ImageUri"])


@contextmanager
def _status(first: str, *, is_live: bool) -> Iterator[Callable[[str], None]]:
    """Show which step is under way, on a terminal; yields what to call with the next one."""
    if not is_live:
        yield lambda _: None
        return
    with output.console(stderr=True).status(first) as status:
        yield lambda step: status.update(output.printable(step))
