"""A store that speaks S3's protocol, on loopback, in this process."""

from __future__ import annotations

import datetime
import uuid
from typing import Any

import boto3
from botocore.config import Config
from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3 import s3_backends
from moto.server import ThreadedMotoServer


class S3Server:
    """Use as a context manager; several may run, but they show the same buckets."""

    def __init__(self) -> None:
        self._server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
        self.endpoint = ""
        self.client: Any = None

    def __enter__(self) -> S3Server:
        self._server.start()
        host, port = self._server.get_host_and_port()
        self.endpoint = f"http://{host}:{port}"
        self.client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id="key",
            aws_secret_access_key="secret",
            config=Config(s3={"addressing_style": "path"}),
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self._server.stop()

    def make_bucket(self) -> str:
        """Make an empty bucket, and return its name."""
        name = f"b-{uuid.uuid4().hex}"
        self.client.create_bucket(Bucket=name)
        return name

    def age(self, bucket: str, seconds: float) -> None:
        """Make everything in the bucket that much older."""
        for key in self._buckets[bucket].keys.values():
            key.last_modified -= datetime.timedelta(seconds=seconds)

    def put_quickly(self, bucket: str, key: str) -> None:
        """Store an empty object without a request."""
        s3_backends[DEFAULT_ACCOUNT_ID]["aws"].put_object(bucket, key, b"")

    @property
    def _buckets(self) -> Any:
        return s3_backends[DEFAULT_ACCOUNT_ID]["aws"].buckets
