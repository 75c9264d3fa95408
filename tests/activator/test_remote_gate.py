"""The gate of a replica whose slots its sidecar owns: bounded by what it was told."""

from activator.remote_gate import RemoteGate
from zerogate.control import Terms
from zerogate.gate import MOST_INSIDE


def gate(*, limit: int = 4, allowance: int = 2) -> RemoteGate:
    one = RemoteGate(limit=limit, release_limit=limit or 8)
    one.tell(Terms(ready=True, detail="", allowance=allowance, limit=limit, most=limit or 8))
    one.reopen()
    return one


def test_until_the_sidecar_has_spoken_nothing_enters() -> None:
    one = RemoteGate(limit=4, release_limit=4)
    assert not one.is_open
    one.reopen()
    assert not one.try_release()


def test_no_more_enter_than_the_allowance_warm_or_held() -> None:
    one = gate()
    assert [one.try_enter(), one.try_release(), one.try_enter(), one.try_release()] == [True, True, False, False]


def test_an_allowance_of_nothing_is_not_taken_for_no_limit() -> None:
    assert not gate(allowance=0).try_enter()


def test_without_a_limit_the_allowance_bounds_only_what_was_held() -> None:
    one = gate(limit=0, allowance=1)
    assert [one.try_release(), one.try_release(), one.try_enter()] == [True, False, True]


def test_without_a_limit_there_is_one_all_the_same() -> None:
    one = gate(limit=0)
    assert sum(one.try_enter() for _ in range(MOST_INSIDE + 1)) == MOST_INSIDE


def test_open_websockets_are_part_of_an_allowance_as_the_sidecar_counts_them() -> None:
    one = gate(limit=0, allowance=2)
    assert one.try_release()
    one.lasting += 1
    assert [one.try_release(), one.try_release()] == [True, False]


def test_after_a_request_was_turned_away_nothing_enters_until_the_sidecar_speaks_again() -> None:
    one = gate()
    assert one.try_enter()
    one.leave()
    assert one.turn_away()
    assert not one.try_enter()
    one.tell(Terms(ready=True, detail="", allowance=1, limit=4, most=4))
    assert one.try_enter()


def test_a_policy_does_not_overrule_the_sidecar_but_counts_without_it() -> None:
    one = gate(allowance=1)
    one.configure(limit=9, release_limit=9)
    assert (one.limit, one.release_limit) == (4, 1)
    one.trust()
    assert (one.limit, one.release_limit) == (9, 9)
    assert not one.turn_away(), "nobody will say when there is a place again"
