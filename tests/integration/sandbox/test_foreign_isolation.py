"""What isolates functions of ours isolates images of anybody's: the same tests, run on images treated as such."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.integration.sandbox.bench import Bench, finish, run
from tests.integration.sandbox.test_sandbox_isolation import (
    cgroup_file,
    public_host,
    test_allowed_network_is_open,
    test_another_sandbox_is_closed,
    test_everything_but_tmp_and_shared_memory_is_read_only,
    test_host_addresses_are_closed,
    test_internet_is_open_and_networks_of_the_host_are_not,
    test_memory_limit_is_told_without_cgroup_files,
    test_memory_limit_kills_and_is_told,
    test_names_resolve_through_the_worker,
    test_process_has_no_privileges,
    test_processes_are_bounded_and_all_die_at_a_kill,
    test_runtime_api_socket_is_this_sandbox_alone,
    test_there_is_no_ipv6,
    test_tmp_is_full_at_its_size_and_is_no_memory,
)

pytestmark = pytest.mark.docker

__all__ = [
    "public_host",
    "test_allowed_network_is_open",
    "test_another_sandbox_is_closed",
    "test_everything_but_tmp_and_shared_memory_is_read_only",
    "test_host_addresses_are_closed",
    "test_internet_is_open_and_networks_of_the_host_are_not",
    "test_memory_limit_is_told_without_cgroup_files",
    "test_memory_limit_kills_and_is_told",
    "test_names_resolve_through_the_worker",
    "test_process_has_no_privileges",
    "test_processes_are_bounded_and_all_die_at_a_kill",
    "test_runtime_api_socket_is_this_sandbox_alone",
    "test_there_is_no_ipv6",
    "test_tmp_is_full_at_its_size_and_is_no_memory",
]


@pytest.fixture
async def bench(bench: Bench) -> Bench:
    """The one that every test here takes."""
    return replace(bench, is_foreign=True)


async def test_cpu_of_the_image_is_full_at_first_and_then_its_share(bench: Bench) -> None:
    driver = bench.driver()
    running = await run(driver, await driver.start(bench.spec(memory_mb=256)), "print(1, flush=True)\nwhile True: pass")
    await running.line()
    quota = cgroup_file("cpu", bench.user_container(running.sandbox), "cpu.cfs_quota_us")
    at_start = quota.read_text().strip()

    driver.limit_cpu(running.sandbox)

    assert at_start == "-1"
    assert quota.read_text().strip() == str(256 * 100_000 // 1769)
    await finish(running)
