"""A stream to an autoscaler that says more than it should."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.zerogate.http.rig import replica
from zerogate.clock import now
from zerogate.reporting import stream as streams
from zerogate.reporting.connection import SLICE
from zerogate.reporting.proof import MASTER_BYTES, NONCE_BYTES, Session, new_key
from zerogate.reporting.stream import FIRST_PAUSE_S, LONGEST_APPOINTMENT_S, Asked, Stream
from zerogate.reporting.wire import (
    PREAMBLE,
    PROVEN_PREAMBLE,
    SILENCE_S,
    Ack,
    Beat,
    Challenge,
    Hello,
    Order,
    Proof,
    Token,
    TurnedAway,
    Welcome,
    frame,
    read_from_source,
)
from zerogate.runtime.interface import Address
from zerogate.tasks import Nursery

pytestmark = pytest.mark.both_loops


class Owner:
    """Counts what it is told in each turn of the loop."""

    def __init__(self) -> None:
        self.acks = self.most_at_once = 0
        self.this_turn = 0
        self.has_all = asyncio.Event()

    def hello(self) -> Hello:
        return Hello("me", "i1", "sidecar")

    def on_welcome(self, stream: Stream) -> None: ...
    def on_writable(self, stream: Stream) -> None: ...
    def on_order(self, stream: Stream, order: Order) -> None: ...

    def on_ack(self, stream: Stream, number: int, *, is_leading: bool, refused: str = "") -> None:
        if not self.this_turn:
            asyncio.get_running_loop().call_soon(self._end_turn)
        self.this_turn += 1
        self.most_at_once = max(self.most_at_once, self.this_turn)
        self.acks += number
        if self.acks == 5000:
            self.has_all.set()

    def _end_turn(self) -> None:
        self.this_turn = 0


async def test_a_flood_of_words_is_heard_in_slices() -> None:
    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(frame(Welcome(True)) + frame(Ack(1, True)) * 5000)
        await reader.read()

    owner, nursery = Owner(), Nursery()
    async with replica(flood) as port:
        stream = Stream(Address("127.0.0.1", port), owner, lambda: 0.0)
        nursery.start(stream.run(), name="a stream")
        async with asyncio.timeout(10):
            await owner.has_all.wait()
        await nursery.aclose()
        await asyncio.sleep(0)
    assert owner.most_at_once <= 2 * SLICE


class Door:
    """Says one thing to whoever comes, and ends; welcomes from the visit `open_from` on."""

    def __init__(self, says: bytes, open_from: int = 2) -> None:
        self.visits_s: list[float] = []
        self.is_welcome = asyncio.Event()
        self._says = says
        self._open_from = open_from

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.visits_s.append(now())
        if len(self.visits_s) < self._open_from:
            writer.write(self._says)
            return
        await reader.read(100)
        writer.write(frame(Welcome(True)))
        self.is_welcome.set()
        await reader.read()


@asynccontextmanager
async def visiting(door: Door, kind: type[Stream] = Stream) -> AsyncIterator[Stream]:
    nursery = Nursery()
    async with replica(door.answer) as port:
        stream = kind(Address("127.0.0.1", port), Owner(), lambda: 0.0)
        nursery.start(stream.run(), name="a stream")
        try:
            yield stream
        finally:
            await nursery.aclose()
            await asyncio.sleep(0)


class Late(Stream):
    """Hears that its first connection is lost before it could say a word."""

    async def _dial(self, protocol: Callable[[], asyncio.Protocol]) -> Any:
        made: list[Any] = []

        def make() -> asyncio.Protocol:
            made.append(protocol())
            return made[0]  # type: ignore[no-any-return]

        transport = await super()._dial(make)
        if not self._said:
            await made[0].lost
        return transport


async def test_who_is_turned_away_before_it_said_a_word_comes_again() -> None:
    door = Door(frame(TurnedAway("full", is_passing=True)))
    async with visiting(door, Late), asyncio.timeout(10):
        assert await door.is_welcome.wait()


async def test_who_is_told_when_to_come_again_comes_then() -> None:
    door = Door(frame(TurnedAway("full", is_passing=True, come_again_s=0.5)))
    async with visiting(door), asyncio.timeout(10):
        assert await door.is_welcome.wait()
    first_s, second_s = door.visits_s
    assert 0.45 <= second_s - first_s < 5.0


async def test_nobody_is_kept_away_for_longer_than_there_are_appointments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "LONGEST_APPOINTMENT_S", LONGEST_APPOINTMENT_S / 100)
    door = Door(frame(TurnedAway("full", is_passing=True, come_again_s=float("inf"))))
    async with visiting(door), asyncio.timeout(10):
        assert await door.is_welcome.wait()


@pytest.mark.parametrize("come_again_s", [float("nan"), float("-inf"), -5.0, 0.0, 1e-9])
async def test_an_absurd_appointment_is_none_and_the_next_try_is_not_at_once(come_again_s: float) -> None:
    door = Door(frame(TurnedAway("full", is_passing=True, come_again_s=come_again_s)), open_from=4)
    async with visiting(door), asyncio.timeout(10):
        assert await door.is_welcome.wait()
    assert door.visits_s[-1] - door.visits_s[0] >= FIRST_PAUSE_S


async def test_what_anybody_says_of_why_is_one_short_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    door = Door(frame(TurnedAway("no\nautoscaler: all is well\x1b[2J" + "x" * 10_000, is_passing=True)))
    async with visiting(door), asyncio.timeout(10):
        assert await door.is_welcome.wait()
    (line,) = [record.getMessage() for record in caplog.records if "takes no reports" in record.getMessage()]
    assert line.isprintable()
    assert len(line) < 400


async def test_what_follows_the_proof_in_one_packet_is_understood() -> None:
    key = new_key(b"m" * MASTER_BYTES, "ns/chat", "s" * 22)
    visits_s: list[float] = []
    second = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visits_s.append(now())
        if len(visits_s) == 2:
            second.set()
        await reader.readexactly(len(PROVEN_PREAMBLE))
        length = int.from_bytes(await reader.readexactly(4), "big")
        challenge = read_from_source(await reader.readexactly(length))
        assert isinstance(challenge, Challenge)
        session = Session(key, challenge.nonce, b"2" * NONCE_BYTES, is_source=False)
        away = session.seal(frame(TurnedAway("full", is_passing=True, come_again_s=0.5)))
        writer.write(frame(Proof(b"2" * NONCE_BYTES, session.proof)) + away)

    nursery = Nursery()
    async with replica(answer) as port:
        nursery.start(Stream(Address("127.0.0.1", port), Owner(), lambda: 0.0, Asked(key=key)).run(), name="a stream")
        async with asyncio.timeout(10):
            await second.wait()
        await nursery.aclose()
        await asyncio.sleep(0)
    assert visits_s[1] - visits_s[0] >= 0.45


@pytest.mark.parametrize("proves", [True, False], ids=["an autoscaler", "somebody else"])
async def test_who_does_not_prove_to_be_an_autoscaler_is_told_nothing(proves: bool) -> None:
    key = new_key(b"m" * MASTER_BYTES, "ns/chat", "s" * 22)
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(PROVEN_PREAMBLE))
        length = int.from_bytes(await reader.readexactly(4), "big")
        challenge = read_from_source(await reader.readexactly(length))
        assert isinstance(challenge, Challenge)
        session = Session(key, challenge.nonce, b"2" * NONCE_BYTES, is_source=False)
        writer.write(frame(Proof(b"2" * NONCE_BYTES, session.proof if proves else b"3" * len(session.proof))))
        try:
            heard.put_nowait(await reader.read(1000))
        except ConnectionError:
            heard.put_nowait(b"")

    nursery = Nursery()
    async with replica(answer) as port:
        nursery.start(Stream(Address("127.0.0.1", port), Owner(), lambda: 0.0, Asked(key=key)).run(), name="a stream")
        async with asyncio.timeout(10):
            said = await heard.get()
        await nursery.aclose()
        await asyncio.sleep(0)
    assert bool(said) is proves


async def test_who_is_refused_for_good_does_not_come_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "REFUSED_PAUSE_S", 1.0)
    door = Door(frame(TurnedAway("no", is_passing=False)))
    async with visiting(door), asyncio.timeout(10):
        assert await door.is_welcome.wait()
    first_s, second_s = door.visits_s
    assert second_s - first_s >= 0.45


async def test_a_stream_that_lasted_is_missed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "FIRST_PAUSE_S", 1000.0)
    monkeypatch.setattr(streams, "_LASTED_S", 0.1)
    visits = 0
    third = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal visits
        visits += 1
        if visits == 2:
            await asyncio.sleep(0.2)
        elif visits == 3:
            third.set()

    nursery = Nursery()
    async with replica(answer) as port:
        nursery.start(Stream(Address("127.0.0.1", port), Owner(), lambda: 0.0).run(), name="a stream")
        async with asyncio.timeout(30):
            await third.wait()
        await nursery.aclose()
        await asyncio.sleep(0)
    assert visits == 3


async def test_a_token_is_said_when_it_is_another() -> None:
    said: list[type] = []
    has_all = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(PREAMBLE))
        writer.write(frame(Welcome(True)))
        while not has_all.is_set():
            length = int.from_bytes(await reader.readexactly(4), "big")
            said.append(type(read_from_source(await reader.readexactly(length))))
            if said.count(Beat) == 3:
                has_all.set()

    nursery = Nursery()
    async with replica(answer) as port:
        stream = Stream(Address("127.0.0.1", port), Owner(), lambda: 0.0)
        nursery.start(stream.run(), name="a stream")
        async with asyncio.timeout(30):
            while not stream.is_open:
                await asyncio.sleep(0)
            for token in ("one", "one", "two"):
                stream.beat(Beat(), token, now())
            await has_all.wait()
        await nursery.aclose()
        await asyncio.sleep(0)
    assert said == [Hello, Token, Beat, Beat, Token, Beat]


async def test_an_autoscaler_that_is_silent_for_too_long_is_left_and_looked_for_again() -> None:
    door = Door(b"", open_from=1)
    async with visiting(door) as stream, asyncio.timeout(30):
        while not stream.is_open:
            await asyncio.sleep(0)
        stream.beat(Beat(), "", now() + SILENCE_S - 1.0)
        assert stream.is_open
        stream.beat(Beat(), "", now() + SILENCE_S + 1.0)
        while len(door.visits_s) < 2:
            await asyncio.sleep(0.01)


async def test_whoever_speaks_before_it_has_proved_to_be_an_autoscaler_is_left() -> None:
    key = new_key(b"m" * MASTER_BYTES, "ns/chat", "s" * 22)
    is_left = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(PROVEN_PREAMBLE))
        writer.write(frame(Welcome(True)))
        try:
            while await reader.read(1000):
                pass
        except ConnectionError:
            pass
        is_left.set()

    nursery = Nursery()
    async with replica(answer) as port:
        stream = Stream(Address("127.0.0.1", port), Owner(), lambda: 0.0, Asked(key=key))
        nursery.start(stream.run(), name="a stream")
        async with asyncio.timeout(streams.ANSWER_S / 2):
            await is_left.wait()
        assert not stream.is_open
        await nursery.aclose()
        await asyncio.sleep(0)
