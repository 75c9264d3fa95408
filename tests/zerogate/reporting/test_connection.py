"""Bytes of an autoscaler become messages, some at a time."""

import asyncio

import pytest

from zerogate.reporting.connection import SLICE, Connection
from zerogate.reporting.wire import Ack, WireError, frame
from zerogate.runtime.interface import Address


class Wire:
    """A transport that notes what is asked of it."""

    def __init__(self) -> None:
        self.is_read = True
        self.is_closed = False

    def pause_reading(self) -> None:
        self.is_read = False

    def resume_reading(self) -> None:
        self.is_read = True

    def is_closing(self) -> bool:
        return self.is_closed

    def abort(self) -> None:
        self.is_closed = True


class Stream:
    address = Address("10.0.0.1", 8090)

    def __init__(self) -> None:
        self.heard = 0
        self.breaks_at = 0

    def on_message(self, connection: Connection, body: bytes) -> None:
        self.heard += 1
        if self.heard == self.breaks_at:
            raise WireError("of no meaning")

    def on_writable(self, can_write: bool) -> None: ...
    def on_lost(self) -> None: ...


async def opened() -> tuple[Connection, Stream, Wire]:
    stream, wire = Stream(), Wire()
    connection = Connection(stream)
    connection.connection_made(wire)
    return connection, stream, wire


async def test_nothing_more_is_read_while_messages_wait_to_be_dealt_with() -> None:
    connection, stream, wire = await opened()
    connection.data_received(frame(Ack(1, True)) * (2 * SLICE + 1))
    dealt = []
    for _ in range(3):
        dealt.append((stream.heard, wire.is_read))
        await asyncio.sleep(0)
    assert dealt == [(SLICE, False), (2 * SLICE, False), (2 * SLICE + 1, True)]


async def test_of_one_that_was_closed_meanwhile_no_more_is_read() -> None:
    connection, _, wire = await opened()
    connection.data_received(frame(Ack(1, True)) * (SLICE + 1))
    wire.is_closed = True
    for _ in range(3):
        await asyncio.sleep(0)
    assert not wire.is_read


@pytest.mark.parametrize("place", [1, SLICE + 1], ids=["at once", "in a later turn"])
async def test_what_has_no_meaning_ends_it_and_what_follows_is_not_heard(place: int) -> None:
    connection, stream, wire = await opened()
    stream.breaks_at = place
    connection.data_received(frame(Ack(1, True)) * (3 * SLICE))
    for _ in range(5):
        await asyncio.sleep(0)
    assert wire.is_closed
    assert stream.heard == place
