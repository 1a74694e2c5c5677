"""Functions that are container images, for the tests of this folder: pushed, so that no registry is needed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import docker
import httpx

from tests.conformance.calls import FAST, unique
from tests.foreign_images import scratch_image, static_busybox
from tests.images_under_test import built_image, python_base, saved
from tests.platform_under_test import ROLE, Platform

#: What AWS's base images do, in words of ours: their files are theirs. The entry point takes the handler, and the
#: program at AWS's path for it becomes the runtime.
ENTRYPOINT = """#!/bin/sh
[ $# -eq 1 ] || { echo "one argument is needed: the handler" >&2; exit 142; }
_HANDLER=$1
export _HANDLER
[ -n "$AWS_LAMBDA_RUNTIME_API" ] || { echo "there is no Lambda here" >&2; exit 1; }
exec /var/runtime/bootstrap
"""
BOOTSTRAP = """#!/bin/sh
AWS_EXECUTION_ENV=AWS_Lambda_python_lookalike
export AWS_EXECUTION_ENV
exec /var/lang/bin/python3 /var/runtime/bootstrap.py
"""
DOCKERFILE = """FROM {base}
USER 0:0
COPY lambda-entrypoint.sh /lambda-entrypoint.sh
COPY bootstrap /var/runtime/bootstrap
COPY task/ /var/task/
ENV LANG=en_US.UTF-8 TZ=:/etc/localtime PATH=/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin \\
    LAMBDA_TASK_ROOT=/var/task LAMBDA_RUNTIME_DIR=/var/runtime FROM_IMAGE=yes
# What anybody could write to, if it were not for the sandbox.
RUN mkdir -m 777 /declared /open && touch /declared/kept
VOLUME /declared
WORKDIR /var/task
ENTRYPOINT ["/lambda-entrypoint.sh"]
CMD ["app.handler"]
"""
#: A runtime client of a few lines, for an image in which there is nothing else: answers with what it was asked.
STATIC_CLIENT = """
api=http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation
while true; do
  $0 wget -q -S -O /tmp/event $api/next 2>/tmp/headers || exit 1
  id=$($0 sed -n 's/^ *[Ll]ambda-[Rr]untime-[Aa]ws-[Rr]equest-[Ii]d: *//p' /tmp/headers | $0 tr -d '\\r')
  echo "static has $($0 cat /tmp/event) as $($0 id -u)"
  $0 wget -q -O /dev/null --post-file /tmp/event $api/$id/response || exit 2
done
"""


def push(platform: Platform, archive: bytes, name: str) -> str:
    """Push an image, and return its ImageUri."""
    scope = "000000000000/20260101/us-east-1/lambda/aws4_request"
    headers = {"Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"}
    answer = httpx.post(
        f"{platform.endpoint}/_lambdock/images", params={"name": name}, headers=headers, content=archive, timeout=120
    )
    assert answer.status_code == 201, answer.text
    return str(answer.json()["ImageUri"])


@contextmanager
def pushed_lookalike(platform: Platform, files: dict[str, str]) -> Iterator[str]:
    """Yield the ImageUri of an image like AWS's base images for Python, with these files in its task directory."""
    client = docker.from_env()
    try:
        context = {"lambda-entrypoint.sh": ENTRYPOINT, "bootstrap": BOOTSTRAP}
        context |= {f"task/{name}": text for name, text in files.items()}
        with built_image(client, DOCKERFILE.format(base=python_base(client)), context) as name:
            yield push(platform, saved(client, name), "lookalike")
    finally:
        client.close()


@contextmanager
def pushed_static(platform: Platform) -> Iterator[str]:
    """Yield the ImageUri of an image of one program that is linked statically: no shell by that name, no user."""
    client = docker.from_env()
    try:
        changes = [f'ENTRYPOINT ["/busybox", "sh", "-c", {json.dumps(STATIC_CLIENT)}, "/busybox"]']
        with scratch_image(client, {"busybox": static_busybox()}, changes) as name:
            yield push(platform, saved(client, name), "static")
    finally:
        client.close()


def create(platform: Platform, uri: str, **parameters: Any) -> str:
    """Create a function of an image, wait until it is Active, return its name."""
    client = platform.client()
    name = f"image-{unique()[:12]}"
    wanted = {"PackageType": "Image", "Role": ROLE, "MemorySize": 512, "Timeout": 10} | parameters
    client.create_function(FunctionName=name, Code={"ImageUri": uri}, **wanted)
    client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig=FAST)
    return name
