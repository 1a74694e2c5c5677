"""Entry point of the `lambdock` command."""

from cli.app import app


def main() -> None:
    """Run the command line and exit with its status: 0 done, 1 refused or failed, 2 wrong usage."""
    app()


if __name__ == "__main__":
    main()
