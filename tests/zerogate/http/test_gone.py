"""Who is told that a client has gone although nothing is read from it, and who is not."""

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from zerogate.http.gone import GoneWatch
from zerogate.http.h1.pausing import PAUSED_S
from zerogate.http.sweep import TICK_S

Pair = tuple["Transport", socket.socket]


class Transport:
    """A transport that has a socket and reads nothing."""

    def __init__(self, sock: socket.socket | None) -> None:
        self.sock = sock

    def get_extra_info(self, name: str) -> Any:
        return self.sock


@pytest.fixture
def sockets() -> Iterator[list[socket.socket]]:
    made: list[socket.socket] = []
    yield made
    for sock in made:
        sock.close()


def pair(sockets: list[socket.socket]) -> Pair:
    ours, theirs = socket.socketpair()
    sockets += (ours, theirs)
    return Transport(ours), theirs


async def told(events: list[str], count: int) -> list[str]:
    async with asyncio.timeout(30):
        while len(events) < count:
            await asyncio.sleep(0.001)
    return events


async def test_a_client_that_leaves_is_told_of_once_though_its_bytes_lie_unread(sockets: list[socket.socket]) -> None:
    watch, events = GoneWatch(), list[str]()
    transport, client = pair(sockets)
    watch.watch(transport, lambda: events.append("gone"))
    client.send(b"unread")
    await asyncio.sleep(0.01)
    assert events == []
    client.close()
    assert await told(events, 1) == ["gone"]
    await asyncio.sleep(0.01)
    assert events == ["gone"]
    watch.close()


async def test_a_client_that_left_before_it_was_watched_is_told_of_too(sockets: list[socket.socket]) -> None:
    watch, events = GoneWatch(), list[str]()
    transport, client = pair(sockets)
    client.close()
    watch.watch(transport, lambda: events.append("gone"))
    assert await told(events, 1) == ["gone"]
    watch.close()


async def test_one_that_is_forgotten_is_not_told_of_and_may_be_watched_again(sockets: list[socket.socket]) -> None:
    watch, events = GoneWatch(), list[str]()
    transport, client = pair(sockets)
    other, other_client = pair(sockets)

    def first() -> None:
        events.append("first")

    def second() -> None:
        events.append("second")

    descriptor = watch.watch(transport, first)
    watch.watch(other, second)
    watch.forget(descriptor, first)
    client.close()
    other_client.close()
    assert await told(events, 1) == ["second"]
    watch.watch(transport, first)
    assert await told(events, 2) == ["second", "first"]
    watch.close()


async def test_a_late_word_about_a_descriptor_that_is_anothers_by_now_changes_nothing(
    sockets: list[socket.socket],
) -> None:
    watch, events = GoneWatch(), list[str]()
    old, _ = pair(sockets)

    def former() -> None:
        events.append("former")

    descriptor = watch.watch(old, former)
    assert old.sock is not None
    old.sock.close()
    new, client = pair(sockets)
    assert new.sock is not None
    assert new.sock.fileno() == descriptor
    watch.watch(new, lambda: events.append("new"))
    watch.forget(descriptor, former)
    client.close()
    assert await told(events, 1) == ["new"]
    watch.close()


def test_one_that_is_not_read_is_watched_soon_enough_for_a_place_that_is_free_within_a_tenth_of_a_second() -> None:
    assert PAUSED_S + TICK_S <= 0.08


async def test_a_transport_without_a_socket_is_left_alone() -> None:
    watch = GoneWatch()
    assert watch.watch(Transport(None), lambda: pytest.fail("nobody can have left")) == -1
    watch.close()
