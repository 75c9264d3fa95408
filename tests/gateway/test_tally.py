"""Sums over workers: nothing counts twice, and nothing that was counted is lost."""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.messages import Figures, Report
from gateway.tally import PROCESS, Tally
from tests.fuzz import examples


def report(sequence: int, served: int, in_flight: int = 0, *, edition: int = 1, service: str = "chat") -> Report:
    return Report(sequence, edition, {service: Figures({"served": served}, {"in_flight": in_flight})})


def tally(*workers: int) -> Tally:
    it = Tally()
    it.configure(["chat"], 1)
    for worker in workers:
        it.begin(worker)
    return it


def served(it: Tally, service: str = "chat") -> float:
    return it.total(service).counters.get("served", 0)


def in_flight(it: Tally) -> float:
    return it.total("chat").gauges.get("in_flight", 0)


def test_two_workers_are_added() -> None:
    it = tally(1, 2)
    it.report(1, report(1, 5, 2))
    it.report(2, report(1, 7, 1))
    assert (served(it), in_flight(it)) == (12, 3)


def test_a_worker_that_ended_keeps_what_it_counted_and_has_nothing_in_flight() -> None:
    it = tally(1, 2)
    it.report(1, report(1, 5, 2))
    it.report(2, report(1, 7, 1))
    it.end(1)
    assert (served(it), in_flight(it)) == (12, 1)
    it.report(1, report(2, 6, 2))
    assert (served(it), in_flight(it)) == (12, 1)


def test_n1_a_worker_that_drains_counts_its_streams_until_it_has_ended() -> None:
    it = tally(1, 2)
    it.report(1, report(1, 0, 20))
    it.report(2, report(1, 0, 0))
    assert in_flight(it) == 20


def test_a_report_of_nobody_is_not_heard() -> None:
    it = tally(1)
    it.report(9, report(1, 5))
    assert served(it) == 0


def test_a_service_that_went_and_came_back_begins_at_zero_whatever_late_reports_say() -> None:
    it = tally(1)
    it.report(1, report(1, 5))
    it.configure([], 2)
    it.configure(["chat"], 3)
    it.report(1, report(2, 6, edition=1))
    it.report(1, report(3, 6, edition=2))
    assert served(it) == 0
    it.report(1, report(4, 1, edition=3))
    assert served(it) == 1


def test_a_service_of_no_file_is_not_kept_and_the_process_always_is() -> None:
    it = tally(1)
    it.report(1, report(1, 5, service="other"))
    it.report(1, report(2, 5, service=PROCESS))
    it.end(1)
    assert served(it, PROCESS) == 5


class Workers(RuleBasedStateMachine):
    """Workers count and report; reports are lost, repeated and come late, also after their worker's end."""

    def __init__(self) -> None:
        super().__init__()
        self.it = tally()
        self.number = 0
        self.alive: dict[int, dict[str, Any]] = {}
        self.said: list[tuple[int, Report]] = []
        self.truth = 0
        self.heard: dict[int, int] = {}
        self.before = 0.0

    @rule()
    def begin(self) -> None:
        self.number += 1
        self.it.begin(self.number)
        self.alive[self.number] = {"served": 0, "sequence": 0}
        self.heard[self.number] = 0

    @precondition(lambda self: self.alive)
    @rule(data=st.data(), more=st.integers(0, 5))
    def count(self, data: st.DataObject, more: int) -> None:
        worker = data.draw(st.sampled_from(sorted(self.alive)))
        self.alive[worker]["served"] += more
        self.truth += more

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def write(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(sorted(self.alive)))
        self.alive[worker]["sequence"] += 1
        one = self.alive[worker]
        self.said.append((worker, report(one["sequence"], one["served"], 1)))

    @precondition(lambda self: self.said)
    @rule(data=st.data())
    def deliver(self, data: st.DataObject) -> None:
        worker, one = data.draw(st.sampled_from(self.said))
        self.it.report(worker, one)
        if worker in self.alive:
            self.heard[worker] = max(self.heard[worker], int(one.figures["chat"].counters["served"]))

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(sorted(self.alive)))
        del self.alive[worker]
        self.it.end(worker)

    @invariant()
    def sums_are_what_was_heard_and_never_fall(self) -> None:
        total = served(self.it)
        assert total == sum(self.heard.values())
        assert self.before <= total <= self.truth
        assert in_flight(self.it) <= len(self.alive)
        self.before = total


TestWorkers = Workers.TestCase
TestWorkers.settings = settings(max_examples=examples(100), stateful_step_count=40, deadline=None)
