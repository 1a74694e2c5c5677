"""PostgreSQL that goes away and comes back: what needs it waits, what does not goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.platform_under_test import Platform
from tests.postgres_server import PostgresServer


def test_warm_functions_go_on_without_the_database_and_all_else_once_it_is_back(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with PostgresServer() as server:
        platform = Platform(
            Path(tmp_path_factory.mktemp("database")),
            LAMBDOCK_DATABASE_URL=server.make_database(),
            # What one controller remembers, another might have to ask for.
            LAMBDOCK_CONTROLLERS="1",
        )
        platform.start()
        try:
            _lose_and_find(platform, server)
        finally:
            platform.stop()


def _lose_and_find(platform: Platform, server: PostgresServer) -> None:
    client = platform.client()
    name = platform.create("def handler(event, context): return event", MemorySize=128)
    assert client.invoke(FunctionName=name, Payload=b"1")["Payload"].read() == b"1"

    server.crash()

    with pytest.raises(ClientError) as refused:
        client.list_functions()
    assert refused.value.response["Error"]["Code"] == "ServiceException"
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
    for _ in range(5):
        assert client.invoke(FunctionName=name, Payload=b"2")["Payload"].read() == b"2"
    health = platform.health()
    assert health["status"] == "unavailable"
    assert health["parts"]["redis"] == "ok"
    assert health["parts"]["database"] != "ok"

    server.start()

    assert [item["FunctionName"] for item in client.list_functions()["Functions"]] == [name]
    platform.wait_until(platform.is_serving, "all is well again")
    other = platform.create("def handler(event, context): return event", MemorySize=128)
    assert client.invoke(FunctionName=other, Payload=b"3")["Payload"].read() == b"3"
