from __future__ import annotations

import itertools

import pytest

from worker.runtime_api.state import TRANSITIONS, IllegalStepError, RuntimeState, RuntimeStep, next_state


@pytest.mark.parametrize(("state", "step"), list(itertools.product(RuntimeState, RuntimeStep)))
def test_every_pair_is_in_the_table_or_refused(state: RuntimeState, step: RuntimeStep) -> None:
    if (state, step) in TRANSITIONS:
        assert next_state(state, step) is TRANSITIONS[state, step]
    else:
        with pytest.raises(IllegalStepError) as caught:
            next_state(state, step)
        assert (caught.value.state, caught.value.step) == (state, step)


def test_the_table_is_the_documented_life_of_a_runtime() -> None:
    state = RuntimeState.INITIALIZING
    life = []
    for step in (RuntimeStep.NEXT, RuntimeStep.EVENT, RuntimeStep.RESPONSE, RuntimeStep.NEXT, RuntimeStep.EVENT):
        state = next_state(state, step)
        life.append(state.value)
    assert life == ["Ready", "Invoking", "Responded", "Ready", "Invoking"]


def test_nothing_follows_a_failed_initialisation() -> None:
    assert not [state for state, _ in TRANSITIONS if state is RuntimeState.FAILED]
