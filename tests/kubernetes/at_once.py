"""A crowd, as a process inside a node: `python -m tests.kubernetes.at_once ADDRESS:PORT HOST COUNT`.

Each request has a connection of its own, which is there before; the first and the last of them leave within a
millisecond or two. Printed is a line of JSON (`Crowd`).
"""

import asyncio
import sys
from typing import Final

import msgspec

from tests.kubernetes.steady_load import answer
from zerogate.clock import now

PATIENCE_S: Final = 90.0


class Crowd(msgspec.Struct):
    """What came of it: the status of each, 0 where there was no answer, and whether its body came back."""

    statuses: list[int]
    are_whole: list[bool]
    left_within_s: float


async def crowd(place: str, host: str, count: int) -> Crowd:
    """All of it."""
    address, _, port = place.rpartition(":")
    streams = [await asyncio.open_connection(address.strip("[]"), int(port)) for _ in range(count)]
    bodies = [f"request {number}".encode() for number in range(count)]
    heads = [
        f"POST /echo HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
        for body in bodies
    ]
    began_s = now()
    for (_, writer), head, body in zip(streams, heads, bodies, strict=True):
        writer.write(head + body)  # goes out in this call
    left_s = now() - began_s
    answers = await asyncio.gather(*(_answer(reader) for reader, _ in streams))
    for _, writer in streams:
        writer.close()
    return Crowd(
        [status for status, _ in answers],
        [found == body for (_, found), body in zip(answers, bodies, strict=True)],
        left_s,
    )


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    try:
        async with asyncio.timeout(PATIENCE_S):
            status, body, _ = await answer(reader)
    except (OSError, EOFError, TimeoutError) as error:
        return 0, repr(error).encode()
    return status, body


if __name__ == "__main__":
    found = asyncio.run(crowd(sys.argv[1], sys.argv[2], int(sys.argv[3])))
    sys.stdout.write(msgspec.json.encode(found).decode())
