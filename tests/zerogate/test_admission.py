"""The admission queue: order, bounds, and that a ticket leaves once."""

from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from zerogate.admission import PRIORITY_RANGE, AdmissionQueue, Ticket, TicketError


def queue_of(*waiters: tuple[str, int]) -> AdmissionQueue[str]:
    queue: AdmissionQueue[str] = AdmissionQueue(limit=100, limit_bytes=10_000)
    for name, priority in waiters:
        assert queue.offer(name, size_bytes=1, priority=priority) is not None
    return queue


def drained(queue: AdmissionQueue[str]) -> list[str]:
    order = []
    while (ticket := queue.pop()) is not None:
        order.append(ticket.waiter)
    return order


def test_first_come_first_served_inside_a_priority_and_higher_priorities_first() -> None:
    queue = queue_of(("a", 0), ("b", 5), ("c", 0), ("d", -1), ("e", 5))
    assert drained(queue) == ["b", "e", "a", "c", "d"]


def test_the_request_over_the_bound_is_refused_and_the_next_place_is_free_again() -> None:
    queue: AdmissionQueue[str] = AdmissionQueue(limit=2, limit_bytes=1000)
    first = queue.offer("a", size_bytes=1)
    queue.offer("b", size_bytes=1)
    assert queue.offer("c", size_bytes=1) is None
    assert first is not None
    queue.leave(first)
    assert queue.offer("d", size_bytes=1) is not None


def test_the_byte_bound_counts_what_waits_and_not_what_has_left() -> None:
    queue: AdmissionQueue[str] = AdmissionQueue(limit=10, limit_bytes=100)
    assert queue.offer("a", size_bytes=90) is not None
    assert queue.offer("b", size_bytes=11) is None
    assert queue.offer("b", size_bytes=10) is not None
    queue.pop()
    assert queue.offer("c", size_bytes=90) is not None


def test_a_ticket_that_left_cannot_leave_again() -> None:
    queue: AdmissionQueue[str] = AdmissionQueue(limit=10, limit_bytes=100)
    ticket = queue.offer("a", size_bytes=1)
    assert ticket is not None
    queue.leave(ticket)
    with pytest.raises(TicketError):
        queue.leave(ticket)


def test_a_request_that_was_not_sent_is_the_first_of_its_line_again_even_over_the_bound() -> None:
    queue = queue_of(("a", 0), ("b", 0), ("c", 1))
    queue.limit = 3
    queue.put_back("again", size_bytes=1, priority=0)
    assert drained(queue) == ["c", "again", "a", "b"]


def test_priorities_out_of_range_are_clamped_so_that_clients_cannot_make_lines_without_end() -> None:
    queue = queue_of(("a", PRIORITY_RANGE + 5), ("b", 10**9), ("c", -(10**9)))
    assert [ticket.priority for ticket in queue] == [PRIORITY_RANGE, PRIORITY_RANGE, -PRIORITY_RANGE]


class QueueMachine(RuleBasedStateMachine):
    """Against a plain sorted list."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: AdmissionQueue[int] = AdmissionQueue(limit=6, limit_bytes=60)
        self.model: list[Ticket[int]] = []
        self.number = 0

    @rule(size=st.integers(0, 30), priority=st.integers(-2, 2))
    def offer(self, size: int, priority: int) -> None:
        self.number += 1
        full = len(self.model) >= 6 or sum(ticket.size_bytes for ticket in self.model) + size > 60
        ticket = self.queue.offer(self.number, size_bytes=size, priority=priority)
        assert (ticket is None) == full
        if ticket is not None:
            self.model.append(ticket)

    @rule(priority=st.integers(-2, 2))
    def put_back(self, priority: int) -> None:
        self.number += 1
        self.model.insert(0, self.queue.put_back(self.number, size_bytes=1, priority=priority))

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def leave(self, data: Any) -> None:
        ticket = data.draw(st.sampled_from(self.model))
        self.queue.leave(ticket)
        self.model.remove(ticket)

    @rule()
    def pop(self) -> None:
        expected = max(self.model, key=lambda ticket: ticket.priority, default=None)
        assert self.queue.pop() is expected
        if expected is not None:
            self.model.remove(expected)

    @invariant()
    def agrees(self) -> None:
        assert self.queue.length == len(self.model)
        assert self.queue.held_bytes == sum(ticket.size_bytes for ticket in self.model)
        assert list(self.queue) == sorted(self.model, key=lambda ticket: -ticket.priority)


TestQueueMachine = QueueMachine.TestCase
