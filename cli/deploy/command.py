"""`lambdock deploy` from folder to ARN."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

from cli import output
from cli.client import aws_errors, lambda_client
from cli.deploy.manifest import ARCHITECTURES, Manifest, read_manifest
from cli.deploy.package import build_package
from cli.errors import UsageError


def deploy_directory(directory: Path, options: Manifest, *, endpoint: str, region: str | None, is_json: bool) -> None:
    """Create or update the function in `directory`, and print its ARN and how to invoke it.

    Raises: `UsageError` for bad input, before anything is sent; `CliError` with AWS's code and message.
    """
    package = build_package(directory)
    manifest = options.over(read_manifest(directory)).over(Manifest(name=directory.resolve().name))
    if manifest.arch is not None and manifest.arch not in ARCHITECTURES:
        raise UsageError(f"the architecture must be {' or '.join(ARCHITECTURES)}, not {manifest.arch!r}")
    client = lambda_client(endpoint, region=region)

    from cli.deploy.deployer import Deployer  # after lambda_client, which says so where boto3 is missing

    terminal = output.console(stderr=True)
    is_live = terminal.is_terminal and not is_json
    with aws_errors(endpoint), terminal.status("Packing") if is_live else nullcontext() as status:
        deployer = Deployer(client, lambda step: status.update(output.printable(step)) if status else None)
        deployment = deployer.deploy(manifest, package)
    if is_json:
        output.machine(asdict(deployment))
        return
    output.note(f"{deployment.outcome.capitalize()} ({len(package) / 1024:.1f} KB)", "green")
    output.say(deployment.arn)
    output.note(f"Invoke it:  lambdock invoke {deployment.name}")
