"""The table of a client's connection: what may follow what, and that nothing else does."""

import pytest

from zerogate.http.h1.connection_states import (
    EVENTS,
    LOSE,
    NEW,
    NEXT,
    OVER,
    STATES,
    IllegalTransitionError,
    next_state,
)


@pytest.mark.parametrize("event", range(len(EVENTS)), ids=EVENTS)
@pytest.mark.parametrize("state", range(len(STATES)), ids=STATES)
def test_what_is_not_in_the_table_raises(state: int, event: int) -> None:
    if event in NEXT[state]:
        assert next_state(state, event) == NEXT[state][event]
    else:
        with pytest.raises(IllegalTransitionError, match=STATES[state]):
            next_state(state, event)


def test_no_state_is_left_for_an_earlier_one_and_every_one_ends() -> None:
    for state in NEXT:
        assert all(after >= state for after in NEXT[state].values())
        assert NEXT[state][LOSE] == OVER


def test_every_state_is_reached() -> None:
    reached = {NEW}
    for _ in STATES:
        reached |= {after for state in sorted(reached) for after in NEXT[state].values()}
    assert reached == set(NEXT) == set(range(len(STATES)))
