"""LAMBDOCK_FUNCTION_ENDPOINTS: functions reach what the operator names, by its name, and nothing beside it."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import pytest
from botocore.config import Config
from moto.server import ThreadedMotoServer

from tests.conformance.calls import call, deploy, unique
from tests.conformance.image_functions import create, pushed_lookalike
from tests.conformance.isolation.attacker import Attacker
from tests.conformance.isolation.test_network import CONNECT
from tests.platform_under_test import Platform

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

#: A name that the worker resolves, and that nothing in a sandbox knows but by the setting.
NAME = socket.gethostname()

#: Writes and reads an object, as anybody would with boto3.
ROUND_TRIP = """
import boto3, os
from botocore.config import Config
def handler(event, context):
    addressing = {"addressing_style": event["style"]}
    client = boto3.client("s3", config=Config(s3=addressing, retries={"total_max_attempts": 1}))
    client.put_object(Bucket=event["bucket"], Key="from/inside", Body=b"x" * event["size"])
    answer = client.get_object(Bucket=event["bucket"], Key="from/inside")
    keys = [each["Key"] for each in client.list_objects_v2(Bucket=event["bucket"])["Contents"]]
    return {"size": len(answer["Body"].read()), "keys": sorted(keys), "url": client.meta.endpoint_url}
"""


@dataclass(frozen=True)
class Endpoints:
    """What the operator has, and a platform that was told of it."""

    platform: Platform
    client: Any
    address: str
    s3_port: int
    #: A service on the same host that the operator has not named.
    secret_port: int


class _Secret(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"secret")

    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def endpoints(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoints]:
    address = socket.gethostbyname(NAME)
    s3 = ThreadedMotoServer(address, port=0, verbose=False)
    s3.start()
    _, s3_port = s3.get_host_and_port()
    secret = http.server.ThreadingHTTPServer((address, 0), _Secret)
    thread = threading.Thread(target=secret.serve_forever)
    thread.start()
    client = boto3.client(
        "s3",
        endpoint_url=f"http://{address}:{s3_port}",
        region_name="us-east-1",
        aws_access_key_id="x",
        aws_secret_access_key="x",
        config=Config(s3={"addressing_style": "path"}),
    )
    platform = Platform(
        tmp_path_factory.mktemp("endpoints"),
        LAMBDOCK_FUNCTION_ENDPOINTS=f"s3=http://{NAME}:{s3_port},sqs=http://{address}:{s3_port}",
    )
    try:
        platform.start()
        yield Endpoints(platform, client, address, s3_port, secret.server_address[1])
        platform.stop()
    finally:
        client.close()
        s3.stop()
        secret.shutdown()
        secret.server_close()
        thread.join()


@pytest.fixture(scope="module")
def attacker(endpoints: Endpoints) -> Attacker:
    return Attacker(endpoints.platform)


def new_bucket(endpoints: Endpoints) -> str:
    name = f"b-{unique()}"
    endpoints.client.create_bucket(Bucket=name)
    return name


@pytest.mark.parametrize("style", ["path", "virtual", "auto"])
def test_an_object_is_written_and_read_from_inside_a_function(endpoints: Endpoints, style: str) -> None:
    bucket = new_bucket(endpoints)
    endpoints.client.put_object(Bucket=bucket, Key="from/outside", Body=b"y")
    name = deploy(endpoints.platform, ROUND_TRIP, Timeout=30)

    outcome = call(endpoints.platform, name, {"bucket": bucket, "style": style, "size": 8 * 2**20})

    assert outcome.error is None, outcome.payload
    assert outcome.payload == {
        "size": 8 * 2**20,
        "keys": ["from/inside", "from/outside"],
        "url": f"http://{NAME}:{endpoints.s3_port}",
    }
    assert endpoints.client.get_object(Bucket=bucket, Key="from/inside")["Body"].read() == b"x" * 8 * 2**20


def test_a_container_image_reaches_it_too(endpoints: Endpoints) -> None:
    bucket = new_bucket(endpoints)
    with pushed_lookalike(endpoints.platform, {"app.py": ROUND_TRIP}) as uri:
        name = create(endpoints.platform, uri, Timeout=30)

        outcome = call(endpoints.platform, name, {"bucket": bucket, "style": "virtual", "size": 1000})

    assert (outcome.error, outcome.payload["size"]) == (None, 1000), outcome.payload


def test_an_endpoint_at_an_address_is_reached_by_one_of_the_sandbox_s_own(endpoints: Endpoints) -> None:
    code = """
import boto3, os
def handler(event, context):
    client = boto3.client("sqs")
    url = client.create_queue(QueueName=event)["QueueUrl"]
    return {"url": os.environ["AWS_ENDPOINT_URL_SQS"], "made": bool(url)}
"""
    outcome = call(endpoints.platform, deploy(endpoints.platform, code, Timeout=30), unique())

    assert outcome.payload == {"url": f"http://127.0.100.2:{endpoints.s3_port}", "made": True}


def test_the_lambda_api_is_there_beside_them(endpoints: Endpoints) -> None:
    code = """
import boto3
def handler(event, context):
    return [each["FunctionName"] for each in boto3.client("lambda").list_functions()["Functions"]]
"""
    name = deploy(endpoints.platform, code, Timeout=30)

    assert name in call(endpoints.platform, name).payload


def test_what_a_function_says_itself_stays(endpoints: Endpoints) -> None:
    code = "import os\ndef handler(e, c):\n    return {k: v for k, v in os.environ.items() if 'ENDPOINT_URL' in k}"
    own = deploy(endpoints.platform, code, Environment={"Variables": {"AWS_ENDPOINT_URL_S3": "http://mine"}})
    general = deploy(endpoints.platform, code, Environment={"Variables": {"AWS_ENDPOINT_URL": "http://mine"}})

    assert call(endpoints.platform, own).payload == {
        "AWS_ENDPOINT_URL_LAMBDA": "http://127.0.0.1:9002",
        "AWS_ENDPOINT_URL_S3": "http://mine",
        "AWS_ENDPOINT_URL_SQS": f"http://127.0.100.2:{endpoints.s3_port}",
    }
    assert call(endpoints.platform, general).payload == {"AWS_ENDPOINT_URL": "http://mine"}


def test_names_below_the_endpoint_s_are_it_and_nothing_else_is(endpoints: Endpoints, attacker: Attacker) -> None:
    found = attacker.see(
        """
import socket
result = {}
for name in event["names"]:
    try:
        result[name] = sorted({info[4][0] for info in socket.getaddrinfo(name, 80)})
    except OSError:
        result[name] = None
""",
        names=[NAME, NAME.upper(), f"bucket.{NAME}", f"a.b.{NAME}", f"x{NAME}", "controller", "redis", "minio"],
    )

    assert found == {
        NAME: ["127.0.100.1"],
        NAME.upper(): ["127.0.100.1"],
        f"bucket.{NAME}": ["127.0.100.1"],
        f"a.b.{NAME}": ["127.0.100.1"],
        f"x{NAME}": None,
        "controller": None,
        "redis": None,
        "minio": None,
    }


def test_no_other_port_or_address_of_the_host_is_reached(endpoints: Endpoints, attacker: Attacker) -> None:
    attacker.see("result = 1")
    (network,) = attacker.container()["NetworkSettings"]["Networks"].values()
    with socket.create_connection((endpoints.address, endpoints.secret_port), timeout=2):
        pass
    inside = ["127.0.100.1", "127.0.100.2", "127.0.100.3", NAME]
    outside = [endpoints.address, "127.0.0.1", network["Gateway"]]
    ports = [endpoints.secret_port, endpoints.platform.port, 6379, 2375, 22, 9002]
    targets = [
        *((host, port) for host in inside for port in ports),
        *((host, port) for host in outside for port in [*ports[:-1], endpoints.s3_port]),
    ]

    ends = attacker.see(CONNECT, targets=targets)
    open_ones = {end for end, how in ends.items() if how == "connected"}

    assert open_ones == set(), ends
    reached = attacker.see(CONNECT, targets=[("127.0.100.1", endpoints.s3_port), ("127.0.100.2", endpoints.s3_port)])
    assert [how for end, how in reached.items() if "bound" not in end] == ["connected", "connected"]


def test_an_endpoint_s_bytes_are_nobody_s_business_and_end_with_the_endpoint(
    endpoints: Endpoints, attacker: Attacker
) -> None:
    """The pipe carries whatever the two say, `Host` included, to that one address only."""
    said = attacker.see(
        """
import http.client
connection = http.client.HTTPConnection("127.0.100.1", event["port"], timeout=10)
connection.request("GET", "http://127.0.0.1:%d/" % event["secret"], headers={"Host": "127.0.0.1:%d" % event["secret"]})
answer = connection.getresponse()
result = answer.read().decode()
""",
        port=endpoints.s3_port,
        secret=endpoints.secret_port,
    )

    assert "secret" not in said
