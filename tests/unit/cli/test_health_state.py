"""How the command line judges the platform's health, and which addresses it serves on."""

from __future__ import annotations

import pytest

from cli.errors import UsageError
from cli.serve.checks import require_loopback


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "example.org"])
def test_serving_beyond_loopback_is_refused_by_name(host: str) -> None:
    with pytest.raises(UsageError, match="--listen"):
        require_loopback(host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.5", "::1", "localhost"])
def test_loopback_addresses_are_served(host: str) -> None:
    require_loopback(host)
