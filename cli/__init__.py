"""The `lambdock` command: starts the platform on one machine and works with its functions."""
