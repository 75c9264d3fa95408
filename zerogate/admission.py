"""The admission queue of one service. Pure.

First come, first served inside a priority, higher priorities first. Bounded in requests and in bytes: a request over
either bound is refused at once, so one service can neither exhaust the machine nor starve another. A ticket is in the
queue or not, and leaves it exactly once: released, abandoned or refused.
"""

from collections.abc import Iterator
from typing import Final, Generic, TypeVar

from zerogate.errors import ZerogateError

PRIORITY_RANGE: Final = 100
"""Priorities are clamped to ±100: each one in use costs a line of its own."""

Waiter = TypeVar("Waiter")


class TicketError(ZerogateError):
    """A ticket left the queue twice: a bug in the caller."""


class Ticket(Generic[Waiter]):
    """A place in the queue."""

    __slots__ = ("is_waiting", "priority", "size_bytes", "waiter")

    def __init__(self, waiter: Waiter, priority: int, size_bytes: int) -> None:
        self.waiter = waiter
        self.priority = priority
        self.size_bytes = size_bytes
        self.is_waiting = True


class AdmissionQueue(Generic[Waiter]):
    """Tickets in the order in which they will be released. Invariant: `held_bytes` is the sum of the tickets' bytes."""

    def __init__(self, *, limit: int, limit_bytes: int) -> None:
        self.limit = limit
        self.limit_bytes = limit_bytes
        self.held_bytes = 0
        self._lines: dict[int, dict[Ticket[Waiter], None]] = {}
        self.length = 0
        """Tickets that wait."""

    def __len__(self) -> int:
        return self.length

    def offer(self, waiter: Waiter, *, size_bytes: int, priority: int = 0) -> Ticket[Waiter] | None:
        """A ticket at the end of its priority's line, or None where the queue is full in requests or in bytes."""
        if self.length >= self.limit or self.held_bytes + size_bytes > self.limit_bytes:
            return None
        ticket = Ticket(waiter, max(-PRIORITY_RANGE, min(PRIORITY_RANGE, priority)), size_bytes)
        self._enqueue(ticket)
        return ticket

    def put_back(self, waiter: Waiter, *, size_bytes: int, priority: int = 0) -> Ticket[Waiter]:
        """A ticket at the head of its line, for a request that had its turn and was not sent: no bound applies."""
        ticket = Ticket(waiter, max(-PRIORITY_RANGE, min(PRIORITY_RANGE, priority)), size_bytes)
        line = self._lines.pop(ticket.priority, {})
        self._enqueue(ticket)
        self._lines[ticket.priority].update(line)
        return ticket

    def _enqueue(self, ticket: Ticket[Waiter]) -> None:
        self._lines.setdefault(ticket.priority, {})[ticket] = None
        self.length += 1
        self.held_bytes += ticket.size_bytes

    def leave(self, ticket: Ticket[Waiter]) -> None:
        """Take the ticket out: its request was abandoned, or refused. Raises TicketError where it is not in."""
        if not ticket.is_waiting:
            raise TicketError("a ticket left the queue twice")
        line = self._lines[ticket.priority]
        del line[ticket]
        if not line:
            del self._lines[ticket.priority]
        ticket.is_waiting = False
        self.length -= 1
        self.held_bytes -= ticket.size_bytes

    def pop(self) -> Ticket[Waiter] | None:
        """Take out the ticket whose turn it is; None where nothing waits."""
        if not self._lines:
            return None
        ticket = next(iter(self._lines[max(self._lines)]))
        self.leave(ticket)
        return ticket

    def __iter__(self) -> Iterator[Ticket[Waiter]]:
        for priority in sorted(self._lines, reverse=True):
            yield from self._lines[priority]
