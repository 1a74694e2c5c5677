"""What holds for functions of archives holds for container images: the same attacks, from an image."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conformance.image_functions import create, pushed_lookalike
from tests.conformance.isolation.attacker import CODE, Attacker
from tests.conformance.isolation.test_network import (
    listener,
    test_another_function_is_not_reached,
    test_metadata_and_link_local_addresses_are_not_reached,
    test_names_of_the_host_are_not_told,
    test_no_datagram_reaches_the_host_or_another_function,
    test_no_host_address_is_reached_by_tcp,
    test_raw_and_packet_sockets_are_refused_and_no_route_can_be_set,
    test_the_control_plane_is_not_reached_on_any_host_address,
    test_there_is_one_address_family,
    test_unix_sockets_of_the_host_are_out_of_reach,
)
from tests.conformance.isolation.test_privileges import (
    test_a_process_has_no_capability_and_can_gain_none,
    test_a_setuid_program_gives_nothing,
    test_device_nodes_are_the_harmless_ones,
    test_nothing_but_tmp_and_shared_memory_can_be_written,
    test_processes_of_others_are_invisible,
    test_system_calls_of_administrators_are_refused,
)
from tests.conformance.isolation.test_runtime_api_abuse import (
    test_another_invocations_id_answers_nothing,
    test_requests_that_are_not_its_own_are_refused_and_it_goes_on,
)
from tests.platform_under_test import Platform

pytestmark = pytest.mark.docker

__all__ = [
    "listener",
    "test_a_process_has_no_capability_and_can_gain_none",
    "test_a_setuid_program_gives_nothing",
    "test_another_function_is_not_reached",
    "test_another_invocations_id_answers_nothing",
    "test_device_nodes_are_the_harmless_ones",
    "test_metadata_and_link_local_addresses_are_not_reached",
    "test_names_of_the_host_are_not_told",
    "test_no_datagram_reaches_the_host_or_another_function",
    "test_no_host_address_is_reached_by_tcp",
    "test_nothing_but_tmp_and_shared_memory_can_be_written",
    "test_processes_of_others_are_invisible",
    "test_raw_and_packet_sockets_are_refused_and_no_route_can_be_set",
    "test_requests_that_are_not_its_own_are_refused_and_it_goes_on",
    "test_system_calls_of_administrators_are_refused",
    "test_the_control_plane_is_not_reached_on_any_host_address",
    "test_there_is_one_address_family",
    "test_unix_sockets_of_the_host_are_out_of_reach",
]


@pytest.fixture(scope="module")
def attacking_image(platform: Platform) -> Iterator[str]:
    with pushed_lookalike(platform, {"app.py": CODE}) as uri:
        yield uri


@pytest.fixture(scope="module")
def attacker(platform: Platform, attacking_image: str) -> Attacker:
    """In place of the archive that attacks elsewhere."""
    return _started(platform, attacking_image)


@pytest.fixture(scope="module")
def victim(platform: Platform, attacking_image: str) -> Attacker:
    return _started(platform, attacking_image)


def _started(platform: Platform, uri: str) -> Attacker:
    made = Attacker(platform, name=create(platform, uri, Timeout=30))
    # Some tests look at its container before they call it.
    assert made.see("result = 1") == 1
    return made
