"""Replicas of one service: what their boots teach, and who goes first."""

from collections.abc import Mapping

import msgspec
import pytest

from autoscaler.replicas import ReplicaBook
from autoscaler.run_time import BootTimes
from zerogate.runtime.interface import Address, Replica, ReplicaState

STARTING, READY, DRAINING, GONE = (
    ReplicaState.STARTING, ReplicaState.READY, ReplicaState.DRAINING, ReplicaState.GONE,
)  # fmt: skip


def replica(name: str, state: ReplicaState, *, started_s: float = 0.0, ready_s: float | None = None) -> Replica:
    return Replica(
        service="chat", id=name, state=state, address=Address("127.0.0.1", 1), started_s=started_s, ready_s=ready_s
    )


def book(*replicas: Replica) -> ReplicaBook:
    made = ReplicaBook(BootTimes())
    for one in replicas:
        made.on_replica(one)
    return made


def test_those_that_nobody_waits_for_are_counted_among_those_that_start() -> None:
    late = msgspec.structs.replace(replica("late", STARTING), is_overdue=True)
    found = book(late, replica("new", STARTING, started_s=3.0)).summary(5.0, next_try_at_s=None)
    assert (found.starting, found.overdue, found.starting_for_s) == (2, 1, 2.0)
    assert book(late).summary(5.0, next_try_at_s=None).starting_for_s is None


A, B, C = (replica(name, READY, ready_s=float(number)) for number, name in enumerate("abc"))
LATE = msgspec.structs.replace(replica("late", STARTING), is_overdue=True)
S1, S2 = (replica(f"s{number}", STARTING, started_s=float(number)) for number in (1, 2))


@pytest.mark.parametrize(
    ("replicas", "inside", "keep", "is_forced", "victims"),
    [
        pytest.param((A, B, C), {}, 1, False, ("a", "b"), id="idle longest first"),
        pytest.param((A, B, C), {"a": 1}, 1, False, ("b", "c"), id="a busy one last"),
        pytest.param((A, B, C), {"a": 3, "b": 1, "c": 2}, 1, False, ("b", "c"), id="all busy: the least busy drain"),
        pytest.param((A, S1, S2), {}, 1, False, (), id="never a starting one, nor the only ready one"),
        pytest.param((A, B, S1), {}, 1, False, ("a",), id="a ready one of two"),
        pytest.param((A, B, C), {"a": 5, "b": 1}, 1, True, ("c", "b"), id="a person: then the least busy"),
        pytest.param((A, S1, S2), {"a": 1}, 1, True, ("s2", "s1"), id="a person: the youngest start first"),
        pytest.param((A, S1), {}, 0, True, ("a", "s1"), id="all of them"),
        pytest.param((A, LATE), {"a": 1}, 1, False, ("late",), id="one that is overdue before all others"),
        pytest.param((A, S1, LATE), {}, 2, False, ("late",), id="one that is overdue, and not one that may come"),
        pytest.param((A, LATE), {}, 2, False, (), id="nor one that is overdue where it is wanted"),
        pytest.param((A, B, LATE), {}, 1, False, ("late", "a"), id="one that is overdue and one more"),
        pytest.param((A, S1, LATE), {}, 0, True, ("late", "a", "s1"), id="all of them, each once"),
    ],
)
def test_victims(
    replicas: tuple[Replica, ...], inside: Mapping[str, int], keep: int, is_forced: bool, victims: tuple[str, ...]
) -> None:
    assert book(*replicas).victims(keep, lambda name: inside.get(name, 0), is_forced=is_forced) == victims


def test_who_was_busy_lately_is_not_idle_longest() -> None:
    made = book(A, B)
    made.note_busy(lambda name: int(name == "a"), 50.0)
    assert made.victims(1, lambda name: 0, is_forced=False) == ("b",)


def test_a_boot_is_learned_from_one_that_was_seen_starting_only() -> None:
    made = book(replica("found", READY, started_s=0.0, ready_s=900.0))
    assert made.boots.p95_s() is None
    made.on_replica(replica("new", STARTING, started_s=100.0))
    made.on_replica(replica("new", READY, started_s=100.0, ready_s=112.0))
    made.on_replica(replica("new", DRAINING, started_s=100.0, ready_s=112.0))
    made.on_replica(replica("new", READY, started_s=100.0, ready_s=112.0))
    assert made.boots.boots_s == (12.0,)


def test_the_summary_counts_states_and_tells_the_age_of_the_oldest_start() -> None:
    made = book(A, B, S1, S2, replica("d", DRAINING))
    summary = made.summary(11.0, next_try_at_s=None)
    assert (summary.ready, summary.starting, summary.draining) == (2, 2, 1)
    assert (summary.starting_for_s, summary.last_ready_at_s) == (10.0, 1.0)
    for name in ("a", "b", "s1", "s2", "d"):
        made.on_replica(replica(name, GONE))
    assert made.all() == ()
