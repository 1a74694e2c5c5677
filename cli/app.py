"""The list of commands."""

from __future__ import annotations

import typer

from cli.commands import delete, deploy, health, images, invoke, list_, logs, push, serve

app = typer.Typer(
    name="lambdock",
    help="AWS Lambda on your own machines. Deploys, runs and watches functions, here or on the platform at --endpoint.",
    epilog="Start here:  sudo lambdock serve   then   lambdock deploy examples/hello",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("serve")(serve.serve)
app.command("deploy")(deploy.deploy)
app.command("push")(push.push)
app.command("images")(images.images)
app.command("invoke")(invoke.invoke)
app.command("logs")(logs.logs)
app.command("list")(list_.list_functions)
app.command("health")(health.health)
app.command("delete")(delete.delete)
