from __future__ import annotations

import pytest

from controller.events.backoff import throttle_delay_ms


@pytest.mark.parametrize(
    ("attempt", "delay_s"), [(0, 1), (1, 1), (2, 2), (3, 4), (9, 256), (10, 300), (31, 300), (10**9, 300)]
)
def test_delays_double_from_a_second_to_five_minutes(attempt: int, delay_s: int) -> None:
    assert throttle_delay_ms(attempt) == delay_s * 1000
