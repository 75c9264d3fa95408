"""Who leads, and until when they may believe it."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zerogate.kube.lease_book import Create, LeaseBook, Move, Pause, Read, Terms, Write
from zerogate.kube.objects import Lease, LeaseSpec, Meta
from zerogate.kube.times import micro_time, wall_time

WALL = 1_700_000_000.0
TERMS = Terms(duration_s=15, renew_deadline_s=10, retry_s=2)


def lease(version: int, **spec: object) -> Lease:
    return Lease(metadata=Meta(resource_version=str(version)), spec=msgspec.convert(spec, LeaseSpec))


def held(by: str, version: int = 1, at: float = WALL, transitions: int = 3) -> Lease:
    return lease(
        version, holderIdentity=by, leaseDurationSeconds=15, renewTime=micro_time(at), leaseTransitions=transitions
    )


def leading(now: float = 100.0) -> LeaseBook:
    book = LeaseBook("me", TERMS)
    book.on_read(None, now)
    book.on_written(held("me"), now, now + 0.1)
    return book


def test_a_lease_that_does_not_exist_is_created() -> None:
    book = LeaseBook("me", TERMS)
    assert book.next_move(0.0, WALL) == Read()
    book.on_read(None, 0.1)
    move = book.next_move(0.1, WALL)
    assert isinstance(move, Create)
    assert move.spec["holderIdentity"] == "me"
    assert move.spec["acquireTime"] == move.spec["renewTime"] == "2023-11-14T22:13:20.000000Z"
    assert not book.is_leader(0.1)


def test_a_leader_renews_every_two_seconds_and_keeps_the_count_of_changes() -> None:
    book = leading(100.0)
    assert book.next_move(100.5, WALL) == Pause(1.5)
    move = book.next_move(102.0, WALL)
    assert isinstance(move, Write)
    assert (move.version, move.spec["leaseTransitions"]) == ("1", 3)
    assert "acquireTime" not in move.spec


def test_a_leader_is_silent_from_its_deadline_on_counted_from_when_it_asked() -> None:
    book = leading(100.0)
    book.on_failed(103.0)
    assert book.is_leader(109.99)
    assert not book.is_leader(110.0)
    assert book.leads_until_s == 110.0


def test_an_answer_that_comes_late_gives_only_what_is_left() -> None:
    book = LeaseBook("me", TERMS)
    book.on_read(None, 0.0)
    book.on_written(held("me"), 0.0, 9.0)
    assert book.is_leader(9.0)
    assert not book.is_leader(10.0)


def test_after_a_failure_it_reads_before_it_writes() -> None:
    book = leading(100.0)
    book.on_failed(103.0)
    assert book.next_move(104.0, WALL) == Pause(1.0)
    assert book.next_move(105.0, WALL) == Read()


def test_the_lease_of_another_is_left_alone_until_it_has_not_changed_for_its_duration() -> None:
    book = LeaseBook("me", TERMS)
    book.on_read(held("other"), 0.0)
    assert isinstance(book.next_move(14.9, WALL), Pause)
    book.on_read(held("other"), 14.95)
    move = book.next_move(17.0, WALL)
    assert isinstance(move, Write)
    assert move.spec["leaseTransitions"] == 4


@pytest.mark.parametrize("skew_s", [-86_400.0, 86_400.0], ids=["a day behind", "a day ahead"])
def test_the_clock_of_the_holder_does_not_matter(skew_s: float) -> None:
    book = LeaseBook("me", TERMS)
    for second in range(0, 60, 2):
        book.on_read(held("other", version=second, at=WALL + skew_s + second), float(second))
        assert isinstance(book.next_move(float(second), WALL), Pause)
    book.on_read(held("other", version=58, at=WALL + skew_s + 58), 72.9)
    assert isinstance(book.next_move(72.9, WALL), Pause)
    book.on_read(held("other", version=58, at=WALL + skew_s + 58), 75.0)
    assert isinstance(book.next_move(75.0, WALL), Write)


def test_whoever_sees_another_holder_stops_at_once() -> None:
    book = leading(100.0)
    book.on_read(held("other", version=9), 101.0)
    assert not book.is_leader(101.0)
    assert book.holder == "other"


def test_a_lease_that_was_given_up_is_taken_at_once() -> None:
    book = leading(100.0)
    last = book.resign(WALL)
    assert isinstance(last, Write)
    assert last.spec["holderIdentity"] == ""
    assert not book.is_leader(100.1)
    other = LeaseBook("other", TERMS)
    other.on_read(lease(2, holderIdentity="", leaseDurationSeconds=1, leaseTransitions=3), 101.0)
    move = other.next_move(101.0, WALL)
    assert isinstance(move, Write)
    assert move.spec["leaseTransitions"] == 4


def test_who_does_not_lead_has_nothing_to_give_up() -> None:
    book = LeaseBook("me", TERMS)
    assert book.resign(WALL) is None
    book.on_read(held("other"), 0.0)
    assert book.resign(WALL) is None


def test_who_is_overtaken_again_and_again_does_not_ask_without_pause() -> None:
    book = LeaseBook("me", TERMS)
    book.on_read(None, 0.0)
    book.on_overtaken(0.0)
    assert book.next_move(0.0, WALL) == Read()
    book.on_read(None, 0.0)
    book.on_overtaken(0.0)
    assert book.next_move(0.0, WALL) == Pause(2.0)


def test_times_are_written_as_the_api_wants_them() -> None:
    assert micro_time(1.5) == "1970-01-01T00:00:01.500000Z"
    assert wall_time("1970-01-01T00:00:01.500000Z") == 1.5
    assert wall_time("1970-01-01T00:00:02Z") == 2.0


TICK_S = 0.25
Fault = tuple[str, float, float, bool]
"""Whose network, from when, for how long, and whether only the answers are lost on the way until it ends."""


class Candidate:
    """A shell whose requests take a tick, or as long as the network makes them."""

    def __init__(self, name: str, skew_s: float, server: "Server") -> None:
        self.book = LeaseBook(name, TERMS)
        self.name = name
        self._skew_s = skew_s
        self._server = server
        self._asked: tuple[float, Move, Lease | str | None] | None = None

    def tick(self, now: float, fault: Fault | None) -> None:
        if self._asked is None:
            move = self.book.next_move(now, WALL + now + self._skew_s)
            if not isinstance(move, Pause):
                is_lost = fault is not None and not fault[3]
                self._asked = (now, move, "lost" if is_lost else self._server.ask(move))
        elif fault is None and now > self._asked[0]:
            self._hear(now, *self._asked)
            self._asked = None

    def _hear(self, now: float, sent_s: float, move: Move, outcome: Lease | str | None) -> None:
        if outcome == "overtaken":
            self.book.on_overtaken(now)
        elif isinstance(outcome, str):
            self.book.on_failed(now)
        elif isinstance(move, Read):
            self.book.on_read(outcome, now)
        elif outcome is not None:
            self.book.on_written(outcome, sent_s, now)


class Server:
    """The lease as the API keeps it."""

    def __init__(self) -> None:
        self.stored: Lease | None = None
        self.holders: list[str] = []

    def ask(self, move: Move) -> Lease | str | None:
        if isinstance(move, Read):
            return self.stored
        assert isinstance(move, Create | Write)
        present = self.stored.metadata.resource_version if self.stored else None
        if present != (move.version if isinstance(move, Write) else None):
            return "overtaken"
        spec = msgspec.convert(move.spec, LeaseSpec)
        if not self.holders or self.holders[-1] != spec.holder_identity:
            self.holders.append(spec.holder_identity or "")
        assert spec.lease_transitions == len(self.holders) - 1
        self.stored = Lease(metadata=Meta(resource_version=str(int(present or 0) + 1)), spec=spec)
        return self.stored


FAULTS = st.lists(
    st.tuples(st.sampled_from("abc"), st.floats(0, 60), st.floats(1, 40), st.booleans()), min_size=1, max_size=6
)


@given(FAULTS)
@settings(deadline=None)
def test_two_never_lead_at_once_and_somebody_leads_soon_after_the_last_fault(faults: list[Fault]) -> None:
    server = Server()
    candidates = [Candidate(name, skew_s, server) for name, skew_s in (("a", 0.0), ("b", 5e3), ("c", -9e3))]
    end = max(start + length for _, start, length, _ in faults) + TERMS.duration_s + 3 * TERMS.retry_s
    now = 0.0
    while now < end:
        now += TICK_S
        for candidate in candidates:
            here = [one for one in faults if one[0] == candidate.name and one[1] <= now < one[1] + one[2]]
            candidate.tick(now, here[0] if here else None)
        leaders = [candidate.name for candidate in candidates if candidate.book.is_leader(now)]
        assert len(leaders) <= 1, f"{leaders} at {now}"
    assert leaders
