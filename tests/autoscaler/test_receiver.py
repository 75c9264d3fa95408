"""Streams from outside: who is heard, who is not, and that nobody can do harm; the real sender at the other end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import autoscaler.stream
from autoscaler.identity import Identity, Refused
from autoscaler.knocks import SOONEST_S
from autoscaler.receiver import Bounds
from tests.autoscaler.ear import Ear, ear
from tests.zerogate.http.rig import LONGEST_S, Clients
from zerogate.clock import now
from zerogate.meter import Meter
from zerogate.policy import Policy
from zerogate.reporting import wire
from zerogate.reporting.sender import Sender, Target
from zerogate.reporting.wire import (
    MOST_READINGS,
    PREAMBLE,
    Ack,
    Beat,
    Bye,
    Frames,
    FromSource,
    Hello,
    Reading,
    Readings,
    Token,
    ToSource,
    TurnedAway,
    Wake,
    Welcome,
    frame,
    read_to_source,
)
from zerogate.runtime.interface import Address
from zerogate.slices import Pace
from zerogate.stats import Stat
from zerogate.tasks import Nursery

pytestmark = pytest.mark.uvloop

TOKENS = {
    "chat": Identity(name="pod chat-1", pod="ns/chat-1", service="chat"),
    "other": Identity(name="pod other-1", pod="ns/other-1", service="other"),
    "gateway": Identity(name="gateway", pod="zerogate-system/gateway-0"),
}


async def by_token(token: str) -> Identity | Refused:
    return TOKENS.get(token, Refused("This token is nobody's."))


class Raw:
    """A source that says what it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._frames = Frames(1 << 20)
        self._heard: list[ToSource] = []

    async def say(self, *messages: FromSource, greeting: bytes = b"") -> None:
        self.writer.write(greeting + b"".join(map(frame, messages)))
        await self.writer.drain()

    async def hear(self) -> ToSource | None:
        """The next message; None at the end."""
        async with asyncio.timeout(LONGEST_S):
            while not self._heard:
                data = await self.reader.read(65536)
                if not data:
                    return None
                self._heard += [read_to_source(body) for body in self._frames.feed(data)]
        return self._heard.pop(0)

    async def hear_all(self) -> list[ToSource]:
        """Everything to the end."""
        heard = []
        while (message := await self.hear()) is not None:
            heard.append(message)
        return heard


@asynccontextmanager
async def judged(**bounds: float) -> AsyncIterator[Ear]:
    it = Ear(Policy(), authenticate=by_token, bounds=Bounds(**bounds) if bounds else None)  # type: ignore[arg-type]
    await it.open()
    try:
        yield it
    finally:
        await it.close()


@asynccontextmanager
async def raw(it: Ear) -> AsyncIterator[Raw]:
    async with Clients() as clients:
        client = await clients.connect("127.0.0.1", it.port)
        yield Raw(client.reader, client.writer)


@asynccontextmanager
async def known(it: Ear, token: str = "chat", kind: wire.Kind = "sidecar") -> AsyncIterator[Raw]:
    """One that was welcomed."""
    async with raw(it) as source:
        await source.say(Hello("me", "i1", kind, token), greeting=PREAMBLE)
        assert await source.hear() == Welcome(True)
        yield source


def reading(service: str = "chat", sequence: int = 1, **more: int) -> Reading:
    return Reading(service, sequence, float(sequence), **more)


async def test_a_source_is_welcomed_heard_and_acknowledged() -> None:
    async with judged() as it, known(it) as source:
        assert it.sources == {"ns/chat-1"}
        await source.say(Readings((reading(in_flight=2),)), Beat())
        assert await source.hear() == Ack(0, True)
        assert it.traffic.in_flight == 2
        assert [stat.source for stat in it.reports] == ["ns/chat-1"]
        await source.say(Wake(7, reading(sequence=2, held=1)))
        assert await source.hear() == Ack(7, True)
        assert it.woken == ["chat"]
        await source.say(Bye())
        assert await source.hear() is None
        await it.until(lambda: it.sources == set())
        assert it.traffic.in_flight == 0


async def test_a_follower_hears_but_does_not_wake_and_says_so() -> None:
    async with judged() as it:
        it.leads = False
        async with raw(it) as source:
            await source.say(Hello("me", "i1", "sidecar", "chat"), greeting=PREAMBLE)
            assert await source.hear() == Welcome(False)
            await source.say(Wake(7, reading(held=1)))
            assert await source.hear() == Ack(7, False)
            assert (it.woken, it.traffic.held) == ([], 1)
            it.leads = True
            await it.receiver.say_who_leads(to_sidecars=True, pace=Pace())
            assert await source.hear() == Ack(0, True)


async def test_a_wake_that_comes_to_nothing_is_acknowledged_with_the_reason_by_who_leads() -> None:
    why = {"chat": "it may not write"}
    async with judged() as it, known(it) as source:
        it.receiver.refusal = lambda service: why.get(service, "")
        await source.say(Wake(7, reading(held=1)))
        assert await source.hear() == Ack(7, True, "it may not write")
        it.leads = False
        await source.say(Wake(7, reading(sequence=2, held=1)))
        assert await source.hear() == Ack(7, False)
        it.leads = True
        del why["chat"]
        await source.say(Wake(7, reading(sequence=3, held=1)))
        assert await source.hear() == Ack(7, True)


@pytest.mark.parametrize(
    "forged",
    [Readings((reading(), reading("victim"))), Wake(1, reading("victim"))],
    ids=["report", "wake"],
)
async def test_a_forged_report_is_refused_and_counted(forged: FromSource) -> None:
    async with judged() as it, known(it) as source:
        await source.say(forged, Readings((reading(sequence=9),)))
        turned_away = await source.hear()
        assert isinstance(turned_away, TurnedAway)
        assert "may report chat" in turned_away.reason
        assert await source.hear() is None
        assert it.receiver.figures.forged == 1
        assert {stat.service for stat in it.reports} <= {"chat"}
        assert all(stat.sequence != 9 for stat in it.reports)
        assert it.woken == []


@pytest.mark.parametrize(
    ("hello", "why"),
    [
        (Hello("me", "i1", "sidecar", "nobody's"), "token"),
        (Hello("me", "i1", "sidecar"), "token"),
        (Hello("me", "i1", "gateway", "chat"), "forged"),
        (Hello("me", "i1", "sidecar", "chat", "other"), "forged"),
    ],
)
async def test_who_proves_nothing_or_claims_too_much_is_not_heard(hello: Hello, why: str) -> None:
    async with judged() as it, raw(it) as source:
        await source.say(hello, greeting=PREAMBLE)
        assert [type(message) for message in await source.hear_all()] == [TurnedAway]
        assert it.receiver.figures.refused[why] == 1
        assert (it.sources, it.receiver.unknown) == (set(), set())


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"zerogate-stats/3\n",
        PREAMBLE + b"\xff\xff\xff\xff",
        PREAMBLE + frame(Beat()),
        wire.PROVEN_PREAMBLE + frame(Hello("me", "i1", "sidecar", "chat")),
        PREAMBLE + b"\x00\x00\x00\x03abc",
        PREAMBLE + frame(Hello("me", "i1", "sidecar", "chat")) + frame(Hello("me", "i1", "sidecar", "chat")),
        PREAMBLE + frame(Hello("me", "i1", "sidecar", "x" * 20_000)),
    ],
)
async def test_who_speaks_otherwise_is_told_and_parted_from(data: bytes) -> None:
    async with judged() as it, raw(it) as source:
        source.writer.write(data)
        assert isinstance((await source.hear_all())[-1], TurnedAway)
        assert it.receiver.figures.refused["protocol"] == 1
        async with known(it, "other"):
            assert it.sources == {"ns/other-1"}


async def test_who_never_says_who_it_is_has_a_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoscaler.stream, "HELLO_S", 0.2)
    async with judged() as it, raw(it) as source:
        source.writer.write(PREAMBLE[:5])
        [message] = await source.hear_all()
        assert isinstance(message, TurnedAway)
        assert message.is_passing
        assert it.receiver.figures.refused["silent"] == 1


async def never(_: str) -> Identity | Refused:
    """Who judges tokens does not answer."""
    await asyncio.Event().wait()
    raise AssertionError


async def test_a_token_that_cannot_be_judged_in_time_is_refused_for_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoscaler.stream, "HELLO_S", 0.2)
    async with judged() as it, raw(it) as source:
        it.receiver.authenticate = never
        await source.say(Hello("me", "i1", "sidecar", "chat"), greeting=PREAMBLE)
        [message] = await source.hear_all()
        assert isinstance(message, TurnedAway)
        assert message.is_passing


async def test_a_new_token_that_cannot_be_judged_in_time_leaves_the_old_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoscaler.stream, "HELLO_S", 0.2)
    async with judged() as it, known(it) as source:
        it.receiver.authenticate = never
        await source.say(Token("chat"), Beat())
        assert await source.hear() == Ack(0, True)


async def test_a_token_that_nobody_can_judge_now_leaves_the_old_one_and_sends_who_is_new_away_for_a_moment() -> None:
    async with judged() as it, known(it) as source:

        async def away(_: str) -> Identity | Refused:
            return Refused("The token could not be judged: the API server is away.", is_passing=True)

        it.receiver.authenticate = away
        await source.say(Token("chat"), Beat())
        assert await source.hear() == Ack(0, True)
        async with raw(it) as new:
            await new.say(Hello("other", "i1", "sidecar", "other"), greeting=PREAMBLE)
            assert await new.hear() == TurnedAway("The token could not be judged: the API server is away.", True)


async def test_a_source_whose_token_expires_and_that_reads_nothing_is_gone_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(autoscaler.stream, "HELLO_S", 0.2)
    monkeypatch.setattr(autoscaler.stream, "SILENCE_S", 0.3)
    monkeypatch.setitem(TOKENS, "short", Identity(name="gateway", expires_s=now() + 0.1))
    async with judged() as it, known(it, "short", "gateway") as source:
        source.writer.transport.pause_reading()  # type: ignore[attr-defined]
        (stream,) = it.receiver.streams.values()
        stream._transport.write(b"x" * (1 << 24))
        await it.until(lambda: not it.sources, 5)
        assert stream._transport.is_closing()
        assert it.receiver.streams == {}


async def test_a_source_whose_token_expires_is_turned_away_though_it_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoscaler.stream, "SILENCE_S", 0.2)
    monkeypatch.setitem(TOKENS, "short", Identity(name="gateway", expires_s=now() + 1.0))
    async with judged() as it, known(it, "short", "gateway") as source:
        async with asyncio.timeout(LONGEST_S):
            heard: ToSource | None = Ack(0, True)
            while heard == Ack(0, True):
                await source.say(Beat())
                heard = await source.hear()
                await asyncio.sleep(0.02)
        assert heard == TurnedAway("The token has expired and no other one was sent.", is_passing=True)


async def test_those_who_hold_requests_hear_first_who_leads() -> None:
    async with judged() as it, known(it, "gateway", "gateway") as source, known(it) as sidecar:
        it.leads = False
        await it.receiver.say_who_leads(to_sidecars=False, pace=Pace())
        assert await source.hear() == Ack(0, False)
        it.leads = True
        await it.receiver.say_who_leads(to_sidecars=True, pace=Pace())
        assert await sidecar.hear() == Ack(0, True), "the other word was not for it"


async def test_what_is_inside_others_is_heard_of_gateways_alone() -> None:
    heard: list[str] = []
    async with judged() as it, known(it, "gateway", "gateway") as source, known(it) as sidecar:
        it.receiver.listener.on_inside = lambda source, inside: heard.append(source)  # type: ignore[method-assign]
        for one in (sidecar, source):
            await one.say(Beat({"ml/chat-1": 1}))
            assert await one.hear() == Ack(0, True)
    assert heard == ["zerogate-system/gateway-0/me"]


async def test_a_gateways_worker_that_has_gone_is_heard_no_more() -> None:
    async with judged() as it:
        async with known(it, "gateway", "gateway"):
            assert list(it.receiver.of_all) == ["zerogate-system/gateway-0/me"]
        await it.until(lambda: not it.sources)
        assert not it.receiver.of_all


async def test_a_gateway_may_say_much_in_one_message_and_a_sidecar_may_not() -> None:
    many = Readings(tuple(reading(f"{'n' * 63}/{'d' * 200}{number}") for number in range(MOST_READINGS)))
    async with judged() as it, known(it, "gateway", "gateway") as source, known(it) as sidecar:
        await source.say(many, Beat())
        assert await source.hear() == Ack(0, True)
        assert it.receiver.figures.reports == MOST_READINGS
        await sidecar.say(many)
        assert isinstance(await sidecar.hear(), TurnedAway)


async def test_streams_are_bounded() -> None:
    async with judged(streams=1) as it, known(it), raw(it) as source:
        [message] = await source.hear_all()
        assert message == TurnedAway("This autoscaler has as many streams as it takes.", True, SOONEST_S)
        assert it.sources == {"ns/chat-1"}


async def test_who_knocks_again_and_again_has_few_tokens_judged_and_leaves_those_that_are_known_alone() -> None:
    judgements = 0

    async with judged(tokens_at_once=3, tokens_per_s=0.1) as it, known(it) as source:
        authenticate = it.receiver.authenticate

        async def count(token: str) -> Identity | Refused:
            nonlocal judgements
            judgements += 1
            return await authenticate(token)

        it.receiver.authenticate = count
        for _ in range(10):
            async with raw(it) as stranger:
                await stranger.say(Hello("me", "i1", "sidecar", "nobody's"), greeting=PREAMBLE)
                assert isinstance((await stranger.hear_all())[-1], TurnedAway)
        assert judgements == 2
        assert (it.receiver.figures.refused["full"], it.receiver.figures.refused["token"]) == (8, 2)
        await source.say(Beat())
        assert await source.hear() == Ack(0, True)


async def test_those_that_say_nothing_give_way_to_who_comes() -> None:
    async with judged(unknown=1, silent_s=0.0) as it, raw(it) as first, raw(it) as second:
        assert isinstance(await first.hear(), TurnedAway)
        await second.say(Hello("me", "i1", "sidecar", "chat"), greeting=PREAMBLE)
        assert await second.hear() == Welcome(True)
        assert not it.receiver.unknown


async def test_who_has_only_just_come_does_not_give_way_and_the_next_one_is_told_when_to_come_again() -> None:
    async with judged(unknown=1, silent_s=60.0) as it, raw(it) as first, raw(it) as second:
        put_off = await second.hear()
        assert isinstance(put_off, TurnedAway)
        assert put_off.is_passing
        assert put_off.come_again_s > 0.0
        await first.say(Hello("me", "i1", "sidecar", "chat"), greeting=PREAMBLE)
        assert await first.hear() == Welcome(True)


async def test_a_token_that_is_taken_back_ends_the_streams_that_it_was_believed_for() -> None:
    async def judge(token: str) -> Identity | Refused:
        return Identity(name=token, pod=f"ns/{token}", service="chat", token_id=token.encode())

    async with judged() as it:
        it.receiver.authenticate = judge
        async with raw(it) as one, raw(it) as other:
            for raws, token in ((one, "one"), (other, "other")):
                await raws.say(Hello("me", "i1", "sidecar", token), greeting=PREAMBLE)
                assert await raws.hear() == Welcome(True)
            it.receiver.withdraw(b"one", Refused("Its account was deleted."))
            assert await one.hear() == TurnedAway("Its account was deleted.")
            await it.until(lambda: it.sources == {"ns/other"})
            await other.say(Beat())
            assert await other.hear() == Ack(0, True)
            assert it.receiver.figures.refused["token"] == 1


async def test_a_second_stream_of_a_source_replaces_the_first() -> None:
    async with judged() as it, known(it) as first, known(it) as second:
        assert await first.hear() is None
        await second.say(Beat())
        assert await second.hear() == Ack(0, True)
        assert it.sources == {"ns/chat-1"}


async def test_who_says_too_much_is_read_more_slowly_and_others_are_not_kept_waiting() -> None:
    async with judged(readings_per_s=50.0, burst_s=1.0) as it, known(it) as loud, known(it, "other") as quiet:
        began_s = now()
        flood = [Readings((reading(sequence=number),)) for number in range(1, 101)]
        sending = it.nursery.start(loud.say(*flood, Beat()), name="flood")
        await quiet.say(Beat())
        assert await quiet.hear() == Ack(0, True)
        assert now() - began_s < 0.5
        assert await loud.hear() == Ack(0, True)
        assert it.receiver.figures.throttled > 0
        await sending
        await loud.say(Readings((reading(sequence=200),)))
        await it.until(lambda: it.reports[-1].sequence == 200)
        assert now() - began_s > 0.8


async def test_a_flood_of_small_messages_never_holds_the_loop() -> None:
    """The fixtures' own guard fails the test where one callback takes too long."""
    async with judged() as it, known(it, "gateway", "gateway") as source:
        await source.say(*[Readings((reading(),) * MOST_READINGS)] * 100, *[Beat()] * 5000)
        for _ in range(5000):
            assert await source.hear() == Ack(0, True)
        assert it.receiver.figures.reports == 100 * MOST_READINGS


async def test_a_new_token_keeps_a_stream_and_somebody_elses_ends_it() -> None:
    async with judged() as it, known(it) as source:
        await source.say(Token("chat"), Beat())
        assert await source.hear() == Ack(0, True)
        await source.say(Token("other"))
        assert isinstance(await source.hear(), TurnedAway)


async def test_new_tokens_are_not_judged_as_fast_as_a_source_says_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each costs a question to the API server, and a gateway may say 20,000 things a second."""
    monkeypatch.setattr(autoscaler.stream, "TOKEN_GAP_S", 0.05)
    asked_s: list[float] = []

    async def judge(token: str) -> Identity | Refused:
        asked_s.append(now())
        return await by_token(token)

    it = Ear(Policy(), authenticate=judge)
    await it.open()
    async with known(it, "gateway", "gateway") as source:
        await source.say(*[Token("gateway")] * 4, Beat())
        assert await source.hear() == Ack(0, True)
    await it.close()
    assert len(asked_s) == 5
    assert asked_s[4] - asked_s[1] > 0.14
    assert it.receiver.figures.throttled == 3


class Counts:
    """A book of one service."""

    def __init__(self) -> None:
        self.meter = Meter()
        self.meter.arrive(now())

    def hold(self) -> None:
        self.meter.arrive(now())
        self.meter.hold(now())

    def take_changed(self) -> list[str]:
        return ["chat"]

    def read(self, service: str, now_s: float) -> Stat | None:
        return self.meter.read(now_s, service=service, source="", incarnation="") if service == "chat" else None


@asynccontextmanager
async def sender(
    book: Counts, *ears: Ear, token_file: Path | str = "", late: list[str] | None = None
) -> AsyncIterator[Sender]:  # fmt: skip
    nursery = Nursery()
    addresses = tuple(Address("127.0.0.1", one.port) for one in ears)
    target = Target(addresses=addresses, source="gateway-0", kind="gateway", token_file=str(token_file))
    told = (lambda _: None) if late is None else late.append
    it = Sender(book, target, nursery=nursery, jitter=lambda: 0.1, on_unacknowledged=told)
    it.start()
    try:
        yield it
    finally:
        await it.close()
        await nursery.aclose()


async def test_all_autoscalers_hear_the_same_and_only_the_leader_is_woken() -> None:
    book, late = Counts(), list[str]()
    async with ear() as leader, ear(leads=False) as follower, sender(book, leader, follower, late=late) as it:
        await leader.until(lambda: it.open_streams == 2)
        book.hold()
        it.wake("chat")
        await leader.until(lambda: leader.woken != [])
        await follower.until(lambda: follower.traffic.held == 1)
        assert follower.woken == []
        await leader.until(lambda: it.leader_age_s < 1.0)
        assert late == []


async def test_a_wake_leaves_by_itself_with_what_is_held_and_waits_for_no_push(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zerogate.reporting.sender.PERIOD_S", 3600.0)
    book = Counts()
    async with ear() as leader, sender(book, leader) as it:
        await leader.until(lambda: it.open_streams == 1)
        book.hold()
        it.wake("chat")
        await leader.until(lambda: leader.woken != [])
        assert leader.traffic.held == 1


async def test_without_a_leader_its_owner_is_told_when_its_patience_ends_and_the_next_leader_hears_the_wake(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("zerogate.reporting.wakes.PATIENCE_S", 0.4)
    book, late = Counts(), list[str]()
    async with ear(leads=False) as one, sender(book, one, late=late) as it:
        await one.until(lambda: it.open_streams == 1)
        book.hold()
        began_s = now()
        it.wake("chat")
        await one.until(lambda: late == ["chat"])
        assert now() - began_s >= 0.4
        one.leads = True
        await one.receiver.say_who_leads(to_sidecars=False, pace=Pace())
        await one.until(lambda: one.woken != [])


async def test_without_any_autoscaler_its_owner_is_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zerogate.reporting.wakes.PATIENCE_S", 0.1)
    book, late = Counts(), list[str]()
    async with ear() as gone:
        pass
    async with sender(book, gone, late=late) as it:
        book.hold()
        it.wake("chat")
        await gone.until(lambda: late == ["chat"])
        assert it.leader_age_s == float("inf")


async def test_an_autoscaler_that_comes_back_hears_all_that_it_missed() -> None:
    book = Counts()
    async with ear() as first:
        port = first.port
        async with sender(book, first) as it:
            await first.until(lambda: first.reports != [])
            await first.close()
            book.hold()
            it.wake("chat")
            again = Ear(Policy())
            await again.open(port)
            try:
                await again.until(lambda: again.woken != [])
                assert again.traffic.held == 1
            finally:
                await again.close()


async def test_a_token_is_read_again_when_it_was_replaced(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("chat\n")
    told: list[str] = []

    async def note(token: str) -> Identity | Refused:
        told.append(token)
        return Identity(name="anybody")

    async with ear() as it:
        it.receiver.authenticate = note
        async with sender(Counts(), it, token_file=file):
            await it.until(lambda: told == ["chat"])
            file.write_text("newer")
            await it.until(lambda: told == ["chat", "newer"])
            assert it.sources == {"gateway-0"}
