"""The access log: one JSON object per request, written in batches, dropped and counted rather than waited for.

Formatting happens when a batch is written; the request path only appends the exchange's figures to a bounded list.
Whoever reads the log may be slow, gone, or a full disk: none of them holds up a request.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Final, Literal

import msgspec

from zerogate.clock import wall
from zerogate.counters import Result
from zerogate.http.exchange import Exchange

SAMPLE: Final = 100
"""With `sampled`, one of so many served requests is written, and every one that was not served."""
AT_ONCE: Final = 500
"""Lines formatted in one call: a millisecond."""
MOST_WAITING: Final = 10_000
"""Lines kept between two writes: 10,000 requests/s at one write a second; beyond that they are dropped and counted."""

log = logging.getLogger(__name__)

Mode = Literal["off", "sampled", "on"]


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One request. Times in seconds; `path` without its query, which may hold secrets."""

    at: float
    service: str
    client: str
    method: str
    path: str
    status: int
    result: str
    code: str = ""
    replica: str = ""
    total_s: float
    hold_s: float = 0.0
    first_byte_s: float | None = None
    attempts: int = 1
    bytes_in: int = 0
    bytes_out: int = 0
    trace_id: str = ""


class AccessLog:
    """Collects lines; `write` takes what it can of a batch of them without waiting and says how many bytes that was.

    `write` may raise OSError: the batch is lost then, and counted.
    """

    def __init__(self, mode: Mode, write: Callable[[bytes], int]) -> None:
        self.mode: Mode = mode
        self.dropped = 0
        """Lines that were not written."""
        self._write = write
        self._lines: list[Line] = []
        self._rest = b""
        """What the last `write` did not take."""
        self._is_failing = False

    def add(self, service: str, exchange: Exchange) -> None:
        """Note a request that has ended, if the mode wants it."""
        if self.mode == "off":
            return
        if self.mode == "sampled" and exchange.result is Result.SERVED and random.randrange(SAMPLE):
            return
        if len(self._lines) >= MOST_WAITING:
            self.dropped += 1
            return
        self._lines.append(_line(service, exchange))

    @property
    def waiting(self) -> int:
        """Lines that are not formatted yet."""
        return len(self._lines)

    def flush(self) -> None:
        """Write a slice of what was collected, as far as it is taken at once; the rest is for the next time."""
        if self._write_rest() and self._lines:
            lines, self._lines = self._lines[:AT_ONCE], self._lines[AT_ONCE:]
            self._rest = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
            self._write_rest()

    async def flush_all(self) -> None:
        """Write what was collected so far, a slice in each turn of the loop."""
        for _ in range(self.waiting // AT_ONCE + 1):
            self.flush()
            await asyncio.sleep(0)

    def finish(self) -> None:
        """Write all that is taken at once, and count the rest as dropped: the process leaves."""
        while self._write_rest() and self._lines:
            self.flush()
        self.dropped += len(self._lines) + self._rest.count(b"\n")
        self._lines, self._rest = [], b""

    def _write_rest(self) -> bool:
        """Whether nothing of it is left, written or lost."""
        if self._rest:
            try:
                self._rest = self._rest[self._write(self._rest) :]
            except OSError as failure:
                self._lose(failure)
            else:
                self._is_failing = False
        return not self._rest

    def _lose(self, failure: OSError) -> None:
        if not self._is_failing:
            log.warning("the access log cannot be written: %s", failure.strerror or failure)
        self._is_failing = True
        self.dropped += self._rest.count(b"\n")
        self._rest = b""


def _line(service: str, exchange: Exchange) -> Line:
    head = exchange.head
    first_byte_s = exchange.first_byte_s
    return Line(
        at=round(wall(), 3),
        service=service,
        client=exchange.downstream.peer.decode("ascii", "replace"),
        method=head.method.decode("ascii", "replace"),
        path=head.target.partition(b"?")[0].decode("ascii", "backslashreplace"),
        status=exchange.status,
        result=str(exchange.result),
        code=exchange.code,
        replica=exchange.upstream.id if exchange.upstream is not None else "",
        total_s=round(exchange.ended_s - exchange.received_s, 6),
        hold_s=round(exchange.hold_s, 6),
        first_byte_s=round(first_byte_s - exchange.received_s, 6) if first_byte_s is not None else None,
        attempts=max(1, exchange.attempts),
        bytes_in=exchange.bytes_in,
        bytes_out=exchange.bytes_out,
        trace_id=exchange.trace.trace_id.decode() if exchange.trace is not None else "",
    )
