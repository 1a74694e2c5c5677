"""The attacker, its victim, and the platform that both run on."""

from __future__ import annotations

import pytest

from tests.conformance.isolation.attacker import Attacker
from tests.platform_under_test import Platform


@pytest.fixture(scope="session")
def attacker(platform: Platform) -> Attacker:
    """A function for attacks that don't destroy the attacker itself."""
    return Attacker(platform)


@pytest.fixture(scope="session")
def victim(platform: Platform) -> Attacker:
    """Another tenant's function, which must go on working."""
    return Attacker(platform)
