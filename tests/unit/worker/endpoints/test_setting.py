"""LAMBDOCK_FUNCTION_ENDPOINTS, and what every sandbox gets by it."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from worker.endpoints.setting import EndpointPlan, Target, parse_endpoints, plan, variables_for
from worker.settings import WorkerSettings

LAMBDA = {"AWS_ENDPOINT_URL_LAMBDA": "http://127.0.0.1:9002"}


def planned(text: str) -> EndpointPlan:
    return plan(parse_endpoints(text))


def test_without_the_setting_functions_reach_the_lambda_api_only() -> None:
    made = planned("  ")

    assert made.listeners == (("127.0.0.1", 9002),)
    assert (made.names, made.pipes, made.variables) == ({}, {}, LAMBDA)


def test_each_host_gets_an_address_and_keeps_its_name_and_port() -> None:
    made = planned("s3=http://minio:9000, dynamodb=https://DB.internal:8000/path/")

    assert made.listeners == (("127.0.0.1", 9002), ("127.0.100.1", 9000), ("127.0.100.2", 8000))
    assert made.pipes == {
        ("127.0.100.1", 9000): Target(host="minio", port=9000),
        ("127.0.100.2", 8000): Target(host="db.internal", port=8000),
    }
    assert made.names == {"minio": "127.0.100.1", "db.internal": "127.0.100.2"}
    assert made.variables == LAMBDA | {
        "AWS_ENDPOINT_URL_S3": "http://minio:9000",
        "AWS_ENDPOINT_URL_DYNAMODB": "https://db.internal:8000/path",
    }


def test_json_says_the_same() -> None:
    assert parse_endpoints('{"s3": "http://minio:9000"}') == parse_endpoints("s3=http://minio:9000")


def test_services_on_one_host_and_port_share_a_listener() -> None:
    made = planned("s3=http://local.stack:4566,sqs=http://local.stack:4566,sns=http://local.stack:4567")

    assert made.listeners[1:] == (("127.0.100.1", 4566), ("127.0.100.1", 4567))
    assert made.names == {"local.stack": "127.0.100.1"}


@pytest.mark.parametrize("host", ["192.168.7.5", "localhost", "minio.localhost", "[::1]"])
def test_what_a_sandbox_can_not_use_by_its_name_is_rewritten(host: str) -> None:
    made = planned(f"s3=http://{host}:9000/x")

    assert made.variables["AWS_ENDPOINT_URL_S3"] == "http://127.0.100.1:9000/x"
    assert made.names == {}
    assert made.pipes == {("127.0.100.1", 9000): Target(host=host.strip("[]"), port=9000)}


def test_ports_follow_from_the_scheme_and_services_are_named_as_sdks_do() -> None:
    made = planned("secrets-manager=https://vault.internal,Step Functions=http://sfn.internal")

    assert [target.port for target in made.pipes.values()] == [443, 80]
    assert {"AWS_ENDPOINT_URL_SECRETS_MANAGER", "AWS_ENDPOINT_URL_STEP_FUNCTIONS"} < set(made.variables)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("s3", "'s3' is no service=URL"),
        ("s3=minio:9000", "'minio:9000', for s3"),
        ("s3=ftp://minio:9000", "http:// or https://"),
        ("s3=http://:9000", "with a host and a port"),
        ("s3=http://minio:0", "with a host and a port"),
        ("s3=http://minio:99999", "no URL"),
        ("s3=http://[::1", "no URL"),
        ("s3=http://user:hunter2@minio:9000", "user, query or fragment"),
        ("s3=http://minio:9000/?x=1", "user, query or fragment"),
        ("s3=http://mi nio:9000", "neither a host name"),
        ("s3=https://10.1.2.3:9000", "give its host name"),
        ("s3=https://localhost:9000", "give its host name"),
        ("a/b=http://minio:9000", "'a/b' is no service"),
        ("s3=http://minio:9000,S3=http://other:9000", "named twice"),
        ('{"s3": 5}', "the URL of 's3' is 5"),
        ('{"s3": ', "is none"),
        (",".join(f"s{n}=http://h{n}:1" for n in range(255)), "more than 254 hosts"),
    ],
)
def test_an_impossible_setting_says_what_is_wrong(text: str, what: str) -> None:
    with pytest.raises(ValueError, match="LAMBDOCK_FUNCTION_ENDPOINTS") as caught:
        parse_endpoints(text)

    assert what in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_the_worker_refuses_to_start_with_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAMBDOCK_FUNCTION_ENDPOINTS", "s3=http://user:hunter2@minio:9000")

    with pytest.raises(ValidationError, match="LAMBDOCK_FUNCTION_ENDPOINTS") as caught:
        WorkerSettings()

    assert "hunter2" not in str(caught.value)


def test_the_worker_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAMBDOCK_FUNCTION_ENDPOINTS", "s3=http://minio:9000")

    assert WorkerSettings().function_endpoints == parse_endpoints("s3=http://minio:9000")


@pytest.mark.parametrize(
    ("own", "left"),
    [
        ({}, {"AWS_ENDPOINT_URL_LAMBDA", "AWS_ENDPOINT_URL_S3"}),
        ({"AWS_ENDPOINT_URL_LAMBDA": "http://mine"}, {"AWS_ENDPOINT_URL_S3"}),
        ({"AWS_ENDPOINT_URL_S3": ""}, {"AWS_ENDPOINT_URL_LAMBDA"}),
        ({"AWS_ENDPOINT_URL": "http://mine"}, set()),
    ],
)
def test_what_a_function_says_itself_stays(own: dict[str, str], left: set[str]) -> None:
    assert set(variables_for(planned("s3=http://minio:9000").variables, own)) == left
