"""The table of an exchange: what may follow what, and that nothing else does."""

import pytest

from tests.zerogate.http.dialogue import Sides, exchange_of
from zerogate.http.phases import ENDED, NEXT, PHASES, ROUTING, TUNNEL, IllegalTransitionError


@pytest.mark.parametrize("to", range(len(PHASES)), ids=PHASES)
@pytest.mark.parametrize("phase", range(len(PHASES)), ids=PHASES)
def test_what_is_not_in_the_table_raises_and_changes_nothing(phase: int, to: int) -> None:
    exchange = exchange_of(Sides())
    exchange.phase = phase
    if to in NEXT[phase]:
        exchange._to(to)
        assert exchange.phase == to
    else:
        with pytest.raises(IllegalTransitionError, match=f"{PHASES[phase]} to {PHASES[to]}"):
            exchange._to(to)
        assert exchange.phase == phase


def test_every_phase_is_reached_and_can_be_ended() -> None:
    reached = {ROUTING}
    for _ in PHASES:
        reached |= {after for phase in sorted(reached) for after in NEXT[phase]}
    assert reached == set(range(len(PHASES)))
    assert all((ENDED in NEXT[phase]) == (phase != ENDED) for phase in reached)


def test_an_answer_or_a_tunnel_that_has_begun_is_only_ended() -> None:
    assert all(NEXT[phase] <= {ENDED} for phase in range(TUNNEL - 1, ENDED))
