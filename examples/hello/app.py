"""Greets whoever the event names, and writes one line to the log."""

import os


def handler(event, context):
    name = event.get("name", "world")
    greeting = os.environ.get("GREETING", "Hello")
    print(f"greeting {name} (request {context.aws_request_id})")
    return {"message": f"{greeting}, {name}!", "function": context.function_name}
