from __future__ import annotations

import pytest

from tests.states_page import PAGE, states_page
from worker.environments.state import TRANSITIONS, Change, IllegalTransitionError, State, next_state

PAIRS = [(state, change) for state in State for change in Change]


@pytest.mark.parametrize(("state", "change"), PAIRS)
def test_every_pair_is_in_the_table_or_raises_naming_the_environment(state: State, change: Change) -> None:
    if (state, change) in TRANSITIONS:
        assert next_state("e1", state, change) is TRANSITIONS[state, change]
        return
    with pytest.raises(IllegalTransitionError, match=rf"e1 is {state}.*{change}"):
        next_state("e1", state, change)


def test_a_stop_is_possible_in_every_state_and_is_the_only_thing_that_a_dead_environment_knows() -> None:
    assert all(TRANSITIONS[state, Change.STOP] is State.DEAD for state in State)
    assert [change for state, change in TRANSITIONS if state is State.DEAD] == [Change.STOP]


def test_every_state_can_be_reached_and_only_idle_and_gated_environments_take_events() -> None:
    reached = {State.STARTING}
    for _ in State:
        reached |= {after for (before, _), after in TRANSITIONS.items() if before in reached}

    assert reached == set(State)
    assert {state for state, change in TRANSITIONS if change is Change.EVENT} == {State.IDLE, State.GATED}


def test_the_page_of_the_documents_shows_the_table() -> None:
    assert PAGE.read_text(encoding="utf-8") == states_page()
