"""An autoscaler proves itself before it is told anything: by TLS, or by a sidecar's key. Nobody else can."""

import asyncio
import logging
import re
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from autoscaler.certificates import load
from autoscaler.identity import Identity, Refused
from tests.autoscaler.ear import Ear
from tests.autoscaler.test_receiver import Counts, Raw, reading
from tests.autoscaler.test_receiver import raw as anybody
from tests.certificates import Authority
from tests.zerogate.http.rig import Clients, replica
from zerogate.http.certificates import KeyPair
from zerogate.policy import Policy
from zerogate.reporting.proof import MASTER_BYTES, NONCE_BYTES, Session, new_key
from zerogate.reporting.sender import Answer, Sender, Target
from zerogate.reporting.stream import Stream
from zerogate.reporting.wire import (
    PREAMBLE,
    PROVEN_PREAMBLE,
    Challenge,
    Hello,
    Order,
    Proof,
    Quiesce,
    Readings,
    TurnedAway,
    Wake,
    Welcome,
    frame,
)
from zerogate.runtime.interface import Address
from zerogate.tasks import Nursery

pytestmark = pytest.mark.both_loops

MASTER = b"m" * MASTER_BYTES
KEY = new_key(MASTER, "chat", "s" * 22)
SECRET = "a-token-that-nobody-else-may-see"


async def by_token(token: str) -> Identity | Refused:
    known = {
        SECRET: Identity(name="gateway", pod="zerogate-system/gateway-0"),
        "chat": Identity(name="pod chat-1", pod="ns/chat-1", service="chat"),
        "other": Identity(name="pod other-1", pod="ns/other-1", service="other"),
    }
    return known.get(token, Refused("This token is nobody's."))


class Served:
    """A certificate that may be replaced."""

    def __init__(self, pair: KeyPair) -> None:
        self.context: ssl.SSLContext | None = None
        self.use(pair)

    def use(self, pair: KeyPair) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        load(self.context, Path(pair.certificate).read_bytes(), Path(pair.key).read_bytes())


@asynccontextmanager
async def hearing(**proving: Any) -> AsyncIterator[Ear]:
    it = Ear(Policy(), authenticate=by_token, **{"takes_unproven": False, "masters": lambda: (MASTER,), **proving})
    await it.open()
    try:
        yield it
    finally:
        await it.close()


@asynccontextmanager
async def source(
    ports: list[int], tmp_path: Path, *, token: str = SECRET, orders: list[Order] | None = None, **target: Any
) -> AsyncIterator[Sender]:
    token_file = tmp_path / "token"
    token_file.write_text(token)
    nursery = Nursery()
    told = Target(
        addresses=tuple(Address("127.0.0.1", port) for port in ports), source="0", token_file=str(token_file),
        **{"kind": "gateway", **target},
    )  # fmt: skip

    def on_order(order: Order, _: Answer) -> None:
        if orders is not None:
            orders.append(order)

    sender = Sender(Counts(), told, nursery=nursery, jitter=lambda: 0.1, on_order=on_order)
    sender.start()
    try:
        yield sender
    finally:
        await sender.close()
        await nursery.aclose()


def sidecar(tmp_path: Path, port: int, **more: Any) -> Any:
    return source([port], tmp_path, kind="sidecar", service="chat", **{"token": "chat", "key": KEY.text(), **more})


class Impostor:
    """Answers in an autoscaler's place, says what it likes, and keeps all that it is told."""

    def __init__(self, *says: bytes) -> None:
        self.says = says
        self.heard = b""
        self.visits = 0
        self.visited = asyncio.Event()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for word in self.says:
            writer.write(word)
        while data := await reader.read(65536):
            self.heard += data
            self.visits += 1
            self.visited.set()
        self.visited.set()


async def until(seen: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not seen():
            await asyncio.sleep(0.01)


# TLS


async def test_over_tls_a_gateway_is_heard(tmp_path: Path) -> None:
    authority = Authority()
    served = Served(authority.issue(tmp_path, "leaf", names=["127.0.0.1"]))
    async with (
        hearing(tls=lambda: served.context) as it,
        source([it.port], tmp_path, ca_file=authority.write(tmp_path / "ca.crt")) as sender,
    ):
        await it.until(lambda: sender.open_streams == 1)
        assert it.receiver.proofs() == {"tls": 1, "key": 0, "none": 0}
        await it.until(lambda: it.reports != [])
        sender.wake("chat")
        await it.until(lambda: "chat" in it.woken)  # said again until it is acknowledged


def wrong(name: str, folder: Path, authority: Authority) -> KeyPair:
    if name == "another authority":
        return Authority("Somebody Else").issue(folder, "leaf", names=["127.0.0.1"])
    if name == "expired":
        return authority.issue(folder, "leaf", names=["127.0.0.1"], days=-0.5)
    return authority.issue(folder, "leaf", names=["localhost"])


@pytest.mark.parametrize(
    ("case", "says"),
    [
        ("another authority", "unable to get local issuer certificate|self.signed"),
        ("expired", "certificate has expired"),
        ("another name", "IP address mismatch"),
    ],
    ids=lambda word: word.split("|")[0],
)
async def test_who_cannot_prove_the_name_gets_no_token_and_no_word(
    case: str, says: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    authority = Authority()
    served = Served(wrong(case, tmp_path, authority))
    async with (
        hearing(tls=lambda: served.context) as it,
        source([it.port], tmp_path, ca_file=authority.write(tmp_path / "ca.crt")) as sender,
    ):
        await it.until(lambda: it.receiver.figures.refused["tls"] > 1)
        assert sender.open_streams == 0
        assert it.reports == []
        served.use(authority.issue(tmp_path, "right", names=["127.0.0.1"]))
        await it.until(lambda: sender.open_streams == 1)
    assert any(re.search(says, record.message) for record in caplog.records), caplog.text


async def test_a_renewed_authority_counts_from_the_next_connection_and_open_streams_stay(tmp_path: Path) -> None:
    old, new = Authority("Old"), Authority("New")
    served = Served(old.issue(tmp_path, "leaf", names=["127.0.0.1"]))
    ca_file = tmp_path / "ca.crt"
    old.write(ca_file)
    async with hearing(tls=lambda: served.context) as it, source([it.port], tmp_path, ca_file=str(ca_file)) as sender:
        await it.until(lambda: sender.open_streams == 1)
        (stream,) = it.receiver.streams.values()
        both = ca_file.read_bytes() + Path(new.write(tmp_path / "new.crt")).read_bytes()
        ca_file.write_bytes(both)
        served.use(new.issue(tmp_path, "later", names=["127.0.0.1"]))
        sender.wake("chat")
        await it.until(lambda: "chat" in it.woken)  # said again until it is acknowledged
        assert list(it.receiver.streams.values()) == [stream]
        stream.abort()
        await it.until(lambda: it.receiver.streams != {} and stream not in it.receiver.streams.values())
        assert it.receiver.figures.refused["tls"] == 0
        assert sender.open_streams == 1


async def test_without_the_file_there_is_no_connection_and_with_it_there_is_one(tmp_path: Path) -> None:
    authority = Authority()
    served = Served(authority.issue(tmp_path, "leaf", names=["127.0.0.1"]))
    ca_file = tmp_path / "ca.crt"
    async with hearing(tls=lambda: served.context) as it, source([it.port], tmp_path, ca_file=str(ca_file)) as sender:
        await asyncio.sleep(0.2)
        assert (sender.open_streams, it.receiver.unknown) == (0, set())
        ca_file.write_text("no certificate")
        await asyncio.sleep(0.2)
        assert (sender.open_streams, it.receiver.unknown) == (0, set())
        authority.write(ca_file)
        await it.until(lambda: sender.open_streams == 1)


async def test_an_impostor_without_tls_hears_a_handshake_and_nothing_else(tmp_path: Path) -> None:
    impostor = Impostor(frame(Welcome(True)), frame(Quiesce("me", 1, 30.0)))
    orders: list[Order] = []
    async with (
        replica(impostor.answer) as port,
        source([port], tmp_path, ca_file=Authority().write(tmp_path / "ca.crt"), orders=orders) as sender,
    ):
        await impostor.visited.wait()
        assert sender.open_streams == 0
    assert orders == []
    assert impostor.heard[:1] in (b"", b"\x16")
    assert SECRET.encode() not in impostor.heard


async def test_who_asks_for_tls_where_there_is_no_certificate_yet_comes_again(tmp_path: Path) -> None:
    authority = Authority()
    held: list[Served] = []
    async with (
        hearing(tls=lambda: held[0].context if held else None) as it,
        source([it.port], tmp_path, ca_file=authority.write(tmp_path / "ca.crt")) as sender,
    ):
        await it.until(lambda: it.receiver.figures.refused["tls"] > 0)
        assert sender.open_streams == 0
        held.append(Served(authority.issue(tmp_path, "leaf", names=["127.0.0.1"])))
        await it.until(lambda: sender.open_streams == 1)
        assert it.receiver.proofs()["tls"] == 1


# A sidecar's key


async def test_with_its_key_a_sidecar_is_heard_and_obeys(tmp_path: Path) -> None:
    orders: list[Order] = []
    async with hearing() as it, sidecar(tmp_path, it.port, orders=orders) as sender:
        await it.until(lambda: sender.open_streams == 1)
        assert it.sources == {"ns/chat-1"}
        assert it.receiver.proofs() == {"tls": 0, "key": 1, "none": 0}
        order = Quiesce("leader", 1, 30.0)
        assert it.receiver.tell("ns/chat-1", order)
        await it.until(lambda: orders == [order])
        await it.until(lambda: len(it.reports) > 1)


@pytest.mark.parametrize(
    "says",
    [
        (frame(Welcome(True)), frame(Quiesce("me", 1, 30.0))),
        (frame(Proof(b"2" * NONCE_BYTES, b"p" * 32)), frame(Welcome(True)), frame(Quiesce("me", 1, 30.0))),
        (frame(Proof(b"short", b"p" * 32)),),
        (frame(TurnedAway("Try again in a year.")),),
    ],
    ids=["speaks at once", "guesses a proof", "gives too short a number", "sends away"],
)
async def test_an_impostor_gets_no_token_and_is_not_obeyed(says: tuple[bytes, ...], tmp_path: Path) -> None:
    impostor = Impostor(*says)
    orders: list[Order] = []
    async with (
        replica(impostor.answer) as port,
        sidecar(tmp_path, port, token=SECRET, orders=orders) as sender,
    ):
        await until(lambda: impostor.visits >= 2)
        assert sender.open_streams == 0
    assert orders == []
    assert impostor.heard.startswith(PROVEN_PREAMBLE)
    assert SECRET.encode() not in impostor.heard


class OnTheWay:
    """Passes everything on between a source and an autoscaler, and adds what it likes."""

    def __init__(self, port: int, adds: bytes) -> None:
        self._port = port
        self._adds = adds
        self.ends = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nursery = Nursery()
        async with Clients() as clients:
            inner = await clients.connect("127.0.0.1", self._port)
            nursery.start(self._pass(inner.reader, writer, self._adds), name="back")
            try:
                await self._pass(reader, inner.writer, b"")
                self.ends += 1
            finally:
                await nursery.aclose()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, adds: bytes) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            # Proof and Welcome are the first two messages: what is added stands behind them
            if adds and len(data) < 60:
                writer.write(adds)


async def test_who_stands_in_between_can_pass_on_but_say_nothing(tmp_path: Path) -> None:
    orders: list[Order] = []
    async with hearing() as it:
        between = OnTheWay(it.port, frame(Quiesce("me", 1, 30.0)))
        async with replica(between.answer) as port, sidecar(tmp_path, port, orders=orders):
            await until(lambda: between.ends >= 1)
    assert orders == []


@asynccontextmanager
async def keyed(it: Ear, key: Any = KEY) -> AsyncIterator[tuple[Raw, Session]]:
    """A source that has proved the autoscaler, and says by hand what it likes."""
    nonce = b"1" * NONCE_BYTES
    async with anybody(it) as raw:
        await raw.say(Challenge(key.name, nonce), greeting=PROVEN_PREAMBLE)
        proof = await raw.hear()
        assert isinstance(proof, Proof), proof
        yield raw, Session(key, nonce, proof.nonce, is_source=True)


@pytest.mark.parametrize("token", ["other", SECRET], ids=["another service's", "a gateway's"])
async def test_an_overheard_token_opens_nothing_without_a_key_of_its_service(token: str) -> None:
    async with hearing() as it, keyed(it) as (raw, session):
        raw.writer.write(session.seal(frame(Hello("0", "i1", "sidecar", token, "chat"))))
        assert await raw.reader.read() != b""
        assert it.sources == set()
        assert it.receiver.figures.refused["forged"] == 1


async def test_who_knows_a_keys_name_but_not_the_key_is_not_heard() -> None:
    async with hearing() as it:
        stranger = new_key(b"x" * MASTER_BYTES, "chat", "s" * 22)
        known = type(stranger)(KEY.name, stranger.secret)
        async with keyed(it, known) as (raw, session):
            raw.writer.write(session.seal(frame(Hello("0", "i1", "sidecar", "chat", "chat"))))
            await raw.reader.read()
            assert it.sources == set()
            assert it.receiver.figures.refused["protocol"] == 1


async def test_a_key_of_no_autoscaler_is_said_and_a_second_challenge_is_not_taken() -> None:
    async with hearing() as it, anybody(it) as raw:
        stranger = new_key(b"x" * MASTER_BYTES, "chat", "s" * 22)
        await raw.say(Challenge(stranger.name, b"1" * NONCE_BYTES), greeting=PROVEN_PREAMBLE)
        assert await raw.hear() == TurnedAway(
            "No autoscaler has made this sidecar's key; its pod has to be replaced.", True
        )
        async with keyed(it) as (again, session):
            again.writer.write(session.seal(frame(Challenge(KEY.name, b"1" * NONCE_BYTES))))
            await again.reader.read()
        assert it.receiver.figures.refused == {
            **dict.fromkeys(it.receiver.figures.refused, 0), "key": 1, "protocol": 1
        }  # fmt: skip


async def test_a_repeated_message_ends_the_stream() -> None:
    async with hearing() as it, keyed(it) as (raw, session):
        raw.writer.write(session.seal(frame(Hello("0", "i1", "sidecar", "chat", "chat"))))
        await it.until(lambda: it.sources == {"ns/chat-1"})
        wake = session.seal(frame(Wake(1, reading(held=1))))
        raw.writer.write(wake + wake)
        await it.until(lambda: it.sources == set())
        assert it.woken == ["chat"]


# Sources of before


@pytest.mark.parametrize("is_taken", [True, False], ids=["taken", "refused"])
async def test_a_source_that_asks_for_no_proof_is_heard_only_where_that_is_allowed(is_taken: bool) -> None:
    async with hearing(takes_unproven=is_taken) as it, anybody(it) as raw:
        await raw.say(Hello("0", "i1", "sidecar", "chat", "chat"), Readings((reading(),)), greeting=PREAMBLE)
        answer = await raw.hear()
        assert isinstance(answer, Welcome if is_taken else TurnedAway)
        assert len(it.receiver.streams) == is_taken
        assert it.receiver.figures.refused["unproven"] == (not is_taken)
        assert it.receiver.proofs()["none"] == is_taken


async def test_a_stream_that_broke_by_a_fault_of_ours_is_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zerogate.reporting.sender.RESOLVE_S", 0.1)
    run, broken = Stream.run, list[Stream]()

    async def breaks(self: Stream) -> None:
        if not broken:
            broken.append(self)
            raise RuntimeError("broken")
        await run(self)

    monkeypatch.setattr(Stream, "run", breaks)
    async with hearing(takes_unproven=True) as it, source([it.port], tmp_path) as sender:
        await it.until(lambda: sender.open_streams == 1)
        assert broken, "the stream that is open is the second one"


async def test_a_sidecar_with_a_key_tells_nothing_to_an_autoscaler_of_before(tmp_path: Path) -> None:
    said = b"the source speaks another protocol, or another version of this one."
    impostor = Impostor(frame(TurnedAway(said.decode())))
    async with replica(impostor.answer) as port, sidecar(tmp_path, port, token=SECRET):
        await until(lambda: impostor.visits >= 2)
    assert SECRET.encode() not in impostor.heard
