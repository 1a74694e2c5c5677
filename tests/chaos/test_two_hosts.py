"""Two engines as two hosts, which share nothing but Redis and a bucket: load, limits, code, and the loss of one."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.chaos.limited import SPAN, LimitedLoad
from tests.conformance.image_functions import create, pushed_static
from tests.platform_under_test import Platform, package
from tests.s3_server import S3Server
from tests.second_engine import SecondEngine, SecondHost

pytestmark = pytest.mark.timeout(240)

LIMIT = 4
CALLERS = 10
MEMORY_MB = "2048"
#: Of every function here.
FUNCTION_MB = 128


@dataclass(frozen=True, slots=True)
class TwoHosts:
    """The first host runs all parts of the platform, the second a worker."""

    platform: Platform
    second: SecondHost

    def sandboxes(self, function: str = "") -> list[Counter[str]]:
        """Count the sandboxes, of one function or all, on each of the hosts by their worker."""
        found = (self.platform.containers(), self.second.engine.containers(self.platform.cell))
        return [Counter(of_environments([item["Labels"] for item in items], function).values()) for items in found]

    def shares(self, function: str = "") -> list[int]:
        """Count them on each of the hosts."""
        return [counts.total() for counts in self.sandboxes(function)]

    def empty(self) -> None:
        """Delete all functions, and wait until nothing of them is left: hosts without anything are equal."""
        client = self.platform.client()
        for item in client.list_functions()["Functions"]:
            client.delete_function(FunctionName=item["FunctionName"])
        self.platform.wait_until(lambda: self.shares() == [0, 0], "both hosts are empty")

    def limited(self, **parameters: object) -> LimitedLoad:
        """Make a function with a limit; return callers of it."""
        name = self.platform.create(SPAN, **{"MemorySize": FUNCTION_MB, "Timeout": 20, **parameters})
        self.platform.client().put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=LIMIT)
        return LimitedLoad(self.platform.client(read_timeout=60), name, CALLERS)

    def wait_for_both(self) -> None:
        """Wait until both workers have a good lease."""
        self.platform.wait_until(lambda: self.serving() == {"first", "second"}, "both serve", timeout_s=60)

    def serving(self) -> set[str]:
        """Return the names of the workers whose lease is good."""
        return {name.partition("@")[0] for name in self.platform.health().get("workers", {})}

    def check_counts(self) -> None:
        """What Redis believes of both engines is what they hold; at rest nothing runs."""
        found: list[str] = []

        def are_true() -> bool:
            found[:] = self.wrong_counts()
            return not found

        try:
            self.platform.wait_until(are_true, "counts are true")
        except AssertionError as error:
            raise AssertionError("\n".join([*found, str(error)])) from None

    def wrong_counts(self) -> list[str]:
        """Return one sentence for each count that differs from the truth."""
        first, second = self.sandboxes()
        alive = first + second
        wrong = []
        with self.platform.redis() as redis:
            idle: Counter[str] = Counter()
            for key in redis.scan_iter(self.platform.key("idle:*")):
                idle.update(token.decode().partition("@")[0] for token in redis.lrange(key, 0, -1))
            if idle != alive:
                wrong.append(f"idle tokens {dict(idle)}, sandboxes {dict(alive)}")
            for pattern in ("inflight:*", "held:*"):
                wrong += [f"{key.decode()} is not empty" for key in redis.scan_iter(self.platform.key(pattern))]
            engines = list(redis.scan_iter(self.platform.key("engine:*")))
            reserved = sorted(int(redis.hget(key, "reserved_mb") or 0) for key in engines)
        if reserved != sorted(counts.total() * FUNCTION_MB for counts in (first, second)):
            wrong.append(f"{reserved} MB are reserved, there are {first} and {second} sandboxes")
        return wrong


def of_environments(labels: list[dict[str, str]], function: str) -> dict[str, str]:
    """Return each environment's worker: one of an image has two containers."""
    return {
        item["lambdock.environment"]: item["lambdock.worker"]
        for item in labels
        if function in ("", item.get("lambdock.function"))
    }


@pytest.fixture
def hosts(two: TwoHosts) -> Iterator[TwoHosts]:
    """Both hosts, with nothing on them."""
    yield two
    two.empty()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoHosts]:
    state_dir = Path(tmp_path_factory.mktemp("first"))
    credentials = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
    with S3Server() as s3, SecondEngine() as engine:
        blob_url = f"s3://{s3.make_bucket()}/blobs?endpoint={s3.endpoint}"
        platform = Platform(
            state_dir,
            LAMBDOCK_BLOB_URL=blob_url,
            LAMBDOCK_WORKER_ID="first",
            LAMBDOCK_WORKERS="1",
            LAMBDOCK_MEMORY_MB=MEMORY_MB,
            **credentials,
        )
        platform.start()
        try:
            second = SecondHost(
                engine,
                cell=platform.cell,
                redis_url=f"unix://{state_dir}/redis/redis.sock",
                blob_url=blob_url,
                LAMBDOCK_MEMORY_MB=MEMORY_MB,
                **credentials,
            )
            # Made on the first engine, and copied: making it again would only take time.
            warm = platform.create("def handler(event, context): return event", MemorySize=FUNCTION_MB)
            platform.client().invoke(FunctionName=warm, Payload=b"1")
            for image in {item["Image"] for item in platform.containers()}:
                engine.take_image(image)
            second.start()
            found = TwoHosts(platform, second)
            found.wait_for_both()
            found.empty()
            try:
                yield found
            finally:
                second.stop()
        finally:
            platform.stop()
        assert engine.containers(platform.cell) == []
        folder = engine.folder
        is_clean = len(engine.links()) == 1
    assert is_clean, "networks of the cell are left on the second engine"
    assert not folder.exists()
    assert engine.mounts() == []
    assert engine.links() == []


def test_a_host_joins_by_redis_and_bucket_alone_shares_the_load_and_may_be_lost(hosts: TwoHosts) -> None:
    platform, second = hosts.platform, hosts.second

    # --- shared load, one limit -----------------------------------------------------------------------------------
    with hosts.limited() as load:
        platform.wait_until(load.more_succeed(40), "40 invocations", timeout_s=60)
        shares = hosts.shares(load.function)
    load.check(LIMIT)
    assert shares == [LIMIT // 2, LIMIT // 2]
    assert load.ends.count("throttled") > 0
    hosts.check_counts()
    # Its code came by the bucket: the second host has a directory of its own, and no other way to the first.
    assert [path.name for path in (second.state_dir / "code").iterdir()]
    assert not (second.state_dir / "blobs").exists()

    # --- the loss of a host under load ----------------------------------------------------------------------------
    with hosts.limited() as load:
        platform.wait_until(load.more_succeed(40), "the load runs", timeout_s=60)
        assert hosts.shares(load.function) == [LIMIT // 2, LIMIT // 2]
        second.die()
        died_at = load.succeeded
        # On the first host, at once.
        platform.wait_until(load.more_succeed(20), "the load goes on")
        platform.wait_until(lambda: hosts.serving() == {"first"}, "the lost host is known to be lost")
        platform.wait_until(lambda: load.ends.count("5xx") > 0, "who waited for it is answered")
        platform.wait_until(load.more_succeed(20), "the load goes on without it")
    load.check(LIMIT, allowed=("ok", "throttled", "5xx"))
    assert load.succeeded > died_at
    # Nobody but those that it ran lost anything.
    assert load.ends.count("5xx") <= LIMIT // 2

    # --- its return -------------------------------------------------------------------------------------------------
    second.engine.start()
    second.start()
    hosts.wait_for_both()
    hosts.check_counts()
    with hosts.limited() as load:
        platform.wait_until(load.more_succeed(40), "40 invocations on both again", timeout_s=60)
        # New environments go where most memory is free: to the host that has just come.
        assert hosts.shares(load.function)[1] > 0
    load.check(LIMIT)
    hosts.check_counts()


def test_bodies_and_logs_of_the_second_host_arrive(hosts: TwoHosts) -> None:
    platform = hosts.platform
    name = platform.create(
        "import time\ndef handler(event, context):\n    print('got', len(event))\n    time.sleep(1)\n    return event",
        MemorySize=FUNCTION_MB,
    )
    text = "x" * 3_000_000

    assert four_at_once(platform, name, text) == [text] * 4

    assert hosts.shares(name) == [2, 2]
    platform.wait_until(
        lambda: sum(line.startswith("got 3000000") for line in platform.logs(name)) == 4, "all logs are read"
    )


def test_layers_and_images_of_functions_arrive_by_the_bucket(hosts: TwoHosts) -> None:
    platform = hosts.platform
    content = {"ZipFile": package({"python/shared.py": "WORD = 'from a layer'"})}
    layer = platform.client().publish_layer_version(LayerName="shared", Content=content)["LayerVersionArn"]
    code = "import time, shared\ndef handler(event, context):\n    time.sleep(1)\n    return shared.WORD"
    layered = platform.create(code, MemorySize=FUNCTION_MB, Layers=[layer])

    assert four_at_once(platform, layered, None) == ["from a layer"] * 4
    assert hosts.shares(layered) == [2, 2]

    with pushed_static(platform) as uri:
        image = create(platform, uri, MemorySize=FUNCTION_MB)
    assert four_at_once(platform, image, {"an": "event"}) == [{"an": "event"}] * 4
    assert min(hosts.shares(image)) > 0


def four_at_once(platform: Platform, name: str, event: object) -> list[object]:
    """Call four times at once, and return the answers."""
    client = platform.client()

    def one(_: int) -> object:
        return json.loads(client.invoke(FunctionName=name, Payload=json.dumps(event))["Payload"].read())

    with ThreadPoolExecutor(4) as threads:
        return list(threads.map(one, range(4)))
