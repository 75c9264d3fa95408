"""A port of the activators is one Service's alone, and rests before it is another's."""

from zerogate.kube.port_ledger import REST_S, PortLedger

A, B, C = ("ns", "a", "http"), ("ns", "b", "http"), ("ns", "c", "http")


def test_each_claim_has_its_own_port_and_keeps_it() -> None:
    ledger = PortLedger(100, 102)
    assert [ledger.take(claim, 0.0) for claim in (A, B, A)] == [100, 101, 100]


def test_no_port_is_given_twice_when_all_are_taken() -> None:
    ledger = PortLedger(100, 101)
    assert [ledger.take(claim, 0.0) for claim in (A, B, C)] == [100, 101, None]


def test_a_port_that_was_given_back_rests() -> None:
    ledger = PortLedger(100, 100)
    ledger.take(A, 0.0)
    ledger.give_back(A, 10.0)
    assert ledger.take(B, 10.0 + REST_S - 1) is None
    assert ledger.take(B, 10.0 + REST_S) == 100


def test_what_slices_say_is_taken_back_after_a_restart() -> None:
    ledger = PortLedger(100, 109, start=105)
    assert ledger.recover(A, 105)
    assert ledger.take(B, 0.0) == 106
    assert ledger.take(A, 0.0) == 105


def test_a_port_of_another_or_out_of_the_range_is_not_taken_back() -> None:
    ledger = PortLedger(100, 109)
    assert ledger.recover(A, 100)
    assert not ledger.recover(B, 100)
    assert not ledger.recover(B, 99)
    assert not ledger.recover(A, 101)
    assert ledger.take(B, 0.0) == 101


def test_the_search_begins_where_it_is_told_and_goes_round() -> None:
    ledger = PortLedger(100, 102, start=102)
    assert [ledger.take(claim, 0.0) for claim in (A, B)] == [102, 100]


def test_a_port_that_was_given_back_is_the_last_that_is_given_again() -> None:
    ledger = PortLedger(100, 102)
    ledger.take(A, 0.0)
    ledger.give_back(A, 0.0)
    assert [ledger.take(claim, REST_S) for claim in (A, B, C)] == [101, 102, 100]


def test_of_several_claims_either_all_get_a_port_or_none() -> None:
    ledger = PortLedger(100, 102)
    assert ledger.take_all([A], 0.0) == (100,)
    assert ledger.take_all([A, B, C], 0.0) == (100, 101, 102)
    ledger.give_back(B, 0.0)
    assert ledger.take_all([("ns", "d", "a"), ("ns", "d", "b")], REST_S) is None
    assert ledger.take_all([("ns", "d", "a")], REST_S) == (101,)
