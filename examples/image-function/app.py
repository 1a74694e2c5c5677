"""Runs in an image of its own making: what the Dockerfile put into it is there."""

import os
import platform
from pathlib import Path


def handler(event, context):
    return {
        "message": f"Hello, {event.get('name', 'world')}, from a container image!",
        "built_with": Path(__file__).with_name("built-with.txt").read_text().strip(),
        "python": platform.python_version(),
        "user": os.getuid(),
        "function": context.function_name,
    }


def shout(event, context):
    """Another handler of the same image: choose it by `command` in lambdock.toml."""
    return {"message": f"HELLO, {event.get('name', 'world').upper()}!"}
