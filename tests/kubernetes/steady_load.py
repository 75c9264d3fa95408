"""Requests at a steady rate, as a process inside a node: `python -m tests.kubernetes.steady_load ADDRESS:PORT HOST
PATH RPS CONNECTIONS FILE`; a rate of 0 is each connection's next request as soon as the last one is answered.

Each connection is kept, and has its turn several times a second as in clients' pools. One that was ended while nothing
was asked on it is replaced without a word, as urllib3 and Go do; a request that went out is never sent again. FILE has
`{}` after the first answers and, after SIGTERM, what became of all of them (`Outcome`). 200 requests a
second cost 5 % of a core.
"""

import asyncio
import signal
import sys
from pathlib import Path
from typing import Final

import msgspec

from zerogate.clock import now

PATIENCE_S: Final = 90.0
FIRST: Final = 10
"""So many answers, and the load has begun."""
MOST_BEHIND_S: Final = 1.0
"""After a pause it does not catch up: a crowd would be another load."""


class Outcome(msgspec.Struct):
    """What came of it: answers, connections made, times in seconds; `wrong` has (when, status, why) of each request
    that was not answered 200, `status` 0 where there was no answer."""

    count: int = 0
    connections: int = 0
    lasted_s: float = 0.0
    middle_s: float = 0.0
    p99_s: float = 0.0
    slowest_s: float = 0.0
    wrong: list[tuple[float, int, str]] = []


class Load:
    """All connections, on one loop."""

    def __init__(self, place: str, host: str, path: str, rps: float, connections: int, file: Path) -> None:
        self._address, _, port = place.rpartition(":")
        self._port = int(port)
        self._request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
        self._rps, self._connections = rps, connections
        self._file = file
        self._began_s = now()
        self._took_s: list[float] = []
        self._ended = asyncio.Event()
        self._outcome = Outcome()

    async def run(self) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._ended.set)
        async with asyncio.TaskGroup() as group:
            for number in range(self._connections):
                group.create_task(self._client(number))
        self._file.write_bytes(msgspec.json.encode(self._whole()))

    async def _client(self, number: int) -> None:
        reader: asyncio.StreamReader | None = None
        writer: asyncio.StreamWriter | None = None
        at_s = self._began_s + (number / self._rps if self._rps else 0.0)
        while not await self._wait_until(at_s):
            began_s = now()
            try:
                async with asyncio.timeout(PATIENCE_S):
                    if reader is None or writer is None or reader.at_eof() or reader.exception():
                        if writer is not None:
                            writer.close()
                        reader, writer = await asyncio.open_connection(self._address, self._port)
                        self._outcome.connections += 1
                    writer.write(self._request)
                    status, body, is_last = await answer(reader)
            except (OSError, EOFError, TimeoutError) as error:
                status, body, is_last = 0, repr(error).encode(), True
            self._note(began_s, status, body)
            if is_last and writer is not None:
                writer.close()
                reader = writer = None
            if self._rps:
                at_s = max(at_s + self._connections / self._rps, now() - MOST_BEHIND_S)
        if writer is not None:
            writer.close()

    async def _wait_until(self, at_s: float) -> bool:
        """Whether it is over."""
        pause_s = at_s - now()
        if pause_s > 0 and not self._ended.is_set():
            try:
                await asyncio.wait_for(self._ended.wait(), pause_s)
            except TimeoutError:
                return False
        return self._ended.is_set()

    def _note(self, began_s: float, status: int, body: bytes) -> None:
        ended_s = now()
        self._took_s.append(ended_s - began_s)
        if status != 200:
            why = body.decode(errors="replace")[:300]
            self._outcome.wrong.append((round(ended_s - self._began_s, 2), status, why))
        if len(self._took_s) == FIRST:
            self._file.write_text("{}")

    def _whole(self) -> Outcome:
        took_s = sorted(self._took_s)
        one = self._outcome
        one.count, one.lasted_s = len(took_s), now() - self._began_s
        one.middle_s, one.p99_s, one.slowest_s = (took_s[int(len(took_s) * share)] for share in (0.5, 0.99, 0.999999))
        return one


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes, bool]:
    """(status, body, whether it is the connection's last). Of answers with a length."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0])
    body = await reader.readexactly(length)
    return int(head[9:12]), body, b"\r\nconnection: close\r\n" in head


def main(place: str, host: str, path: str, rps: str, connections: str, file: str) -> None:
    async def run() -> None:
        await Load(place, host, path, float(rps), int(connections), Path(file)).run()

    asyncio.run(run())


if __name__ == "__main__":
    main(*sys.argv[1:])
