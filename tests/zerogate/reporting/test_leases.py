"""How long a gate is shut, and whose word counts."""

from zerogate.reporting.leases import MOST_ASKERS, Leases
from zerogate.reporting.wire import Quiesce, Reopen


def test_a_gate_is_shut_until_the_lease_ends_and_longer_where_it_is_renewed() -> None:
    leases = Leases()
    assert leases.until_s(0.0) is None
    leases.hear(Quiesce("a", 1, 30.0), 0.0)
    assert (leases.until_s(29.0), leases.until_s(30.0)) == (30.0, None)
    leases.hear(Quiesce("a", 2, 30.0), 10.0)
    assert leases.until_s(30.0) == 40.0


def test_an_order_that_is_overtaken_or_said_again_counts_for_nothing() -> None:
    leases = Leases()
    assert leases.hear(Quiesce("a", 1, 30.0), 0.0)
    assert not leases.hear(Quiesce("a", 1, 30.0), 20.0)
    assert leases.hear(Reopen("a", 3), 21.0)
    assert not leases.hear(Quiesce("a", 2, 30.0), 22.0)
    assert leases.until_s(22.0) is None


def test_nobody_opens_what_another_one_has_shut() -> None:
    leases = Leases()
    leases.hear(Quiesce("a", 7, 30.0), 0.0)
    leases.hear(Quiesce("b", 1, 30.0), 5.0)
    leases.hear(Reopen("a", 8), 6.0)
    assert leases.holders(6.0) == {"b": 1}
    assert leases.until_s(6.0) == 35.0


def test_who_speaks_is_bounded() -> None:
    leases = Leases()
    for number in range(MOST_ASKERS + 5):
        leases.hear(Quiesce(f"asker-{number}", 1, 30.0), 0.0)
    assert len(leases.holders(1.0)) == MOST_ASKERS


def test_who_spoke_longest_ago_is_forgotten_first() -> None:
    leases = Leases()
    for number in range(MOST_ASKERS):
        leases.hear(Quiesce(f"asker-{number}", 1, 30.0), 0.0)
    leases.hear(Quiesce("asker-0", 2, 30.0), 1.0)
    leases.hear(Quiesce("another", 1, 30.0), 1.0)
    assert "asker-0" in leases.holders(1.0)
    assert "asker-1" not in leases.holders(1.0)
