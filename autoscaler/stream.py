"""One stream of a source, from the autoscaler's side: who it is, what it says, what it is told.

It is read only while all that it said is dealt with, and speaks for the one source that its token proves. Before that,
a source may ask this side to prove itself: by a TLS handshake, which its first byte shows, or by a challenge to a key
that autoscalers alone can make again; then each message has a code. What a known source says goes to `heard.py`. Owned
by `autoscaler.receiver`, which knows all of them.
"""

import asyncio
import os
from typing import TYPE_CHECKING, Any, Final

from autoscaler.heard import Heard
from autoscaler.identity import Identity, Refused, Source, source_of
from zerogate.bucket import Bucket
from zerogate.clock import now
from zerogate.http.sweep import NEVER
from zerogate.http.tls_transport import TlsTransport
from zerogate.reporting.proof import NONCE_BYTES, Session, key_named, service_of
from zerogate.reporting.wire import (
    MOST_BYTES,
    MOST_BYTES_OF_ONE,
    PREAMBLE,
    PROVEN_PREAMBLE,
    SILENCE_S,
    Challenge,
    Frames,
    FromSource,
    Hello,
    Proof,
    Token,
    TurnedAway,
    Welcome,
    WireError,
    frame,
    read_from_source,
)

if TYPE_CHECKING:
    from autoscaler.receiver import Receiver

HELLO_S: Final = 5.0
"""For the first message and the judgement of its token."""
KNOCK_S: Final = HELLO_S / 2
"""Most time for which the judgement of a first token is put off; the source comes again."""
SLICE: Final = 256
"""Readings in one callback: about a millisecond."""
_BYTES_OF_ONE: Final = 512
"""A longer reading counts as several: names have at most 317 letters, numbers some ten."""
TOKEN_GAP_S: Final = 1.0
"""Between two tokens of a source: each costs a question to the API server. An honest one has a new one every few
minutes; who says the next one sooner is not read until then."""
_TLS_HANDSHAKE: Final = b"\x16"
"""A TLS record's first byte (RFC 8446 section 5.1); a preamble begins with a letter."""


class Stream(asyncio.Protocol):
    """See the module's text."""

    __slots__ = (
        "_bodies", "_can_write", "_frames", "_greeting", "_heard", "_heard_s", "_identity", "_is_busy", "_key_name",
        "_pace", "_preamble", "_receiver", "_session", "_source", "_tls", "_token_s", "_transport", "tick", "visit_s",
    )  # fmt: skip

    def __init__(self, receiver: "Receiver") -> None:
        self.tick = 0
        self.visit_s = NEVER
        self._receiver = receiver
        self._frames = Frames(MOST_BYTES_OF_ONE)
        self._greeting: bytes | None = b""
        self._preamble = b""
        self._tls: TlsTransport | None = None
        self._session: Session | None = None
        self._key_name = ""
        self._bodies: list[bytes] = []
        self._identity: Identity | None = None
        self._source: Source | None = None
        self._heard: Heard | None = None
        self._transport: Any = None
        self._is_busy = False
        self._can_write = True
        self._heard_s = now()
        self._pace: Bucket | None = None
        self._token_s = float("-inf")
        """When its last token but the first was judged."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        if self._tls is not None:
            self._can_write = True
            return
        if self._receiver.enter(self):
            self._receiver.sweep.watch(self, self._heard_s + HELLO_S)

    def connection_lost(self, exc: Exception | None) -> None:
        self._receiver.sweep.forget(self)
        self._receiver.leave(self, self._source)
        self._heard = None  # each knows the other

    def pause_writing(self) -> None:
        self._can_write = False

    def resume_writing(self) -> None:
        self._can_write = True

    def write(self, data: bytes) -> bool:
        """One message; not to a source that does not read: it will ask again, or count us as silent. Whether it went
        out."""
        if not self._can_write or self._transport.is_closing():
            return False
        self._transport.write(data if self._session is None else self._session.seal(data))
        return True

    @property
    def sees_one(self) -> bool:
        """It is a sidecar's, which sees one service."""
        return self._source is not None and self._source.scope is not None

    def leave(self) -> None:
        """It has said goodbye."""
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    @property
    def token_id(self) -> bytes:
        """Of the token that it is believed by."""
        return b"" if self._identity is None else self._identity.token_id

    @property
    def proof(self) -> str:
        """How this side proved itself: `tls`, `key`, or `none` where it was not asked to."""
        return "tls" if self._tls is not None else "none" if self._session is None else "key"

    def turn_away(self, why: str, reason: str, *, is_passing: bool = False, come_again_s: float = 0.0) -> None:
        """Say why, and end."""
        self._receiver.turn_away(self, self._source, why, reason)
        self.write(frame(TurnedAway(reason, is_passing, come_again_s)))
        self._bodies.clear()
        self._transport.close()

    def put_off(self, reason: str) -> None:
        """There is no time for it now: say when there will be, and end."""
        come_again_s = self._receiver.knocks.come_again_s(self._address, now())
        self.turn_away("full", reason, is_passing=True, come_again_s=come_again_s)

    def due(self, now_s: float) -> float | None:
        """End a stream that is silent, or that has not said who it is."""
        if self._transport.is_closing():
            self.abort()  # it does not read why it was turned away
            return None
        if self._source is None:
            self.turn_away("silent", f"A source says who it is within {HELLO_S:g} s.", is_passing=True)
            return now_s + HELLO_S
        assert self._identity is not None
        if now_s >= self._identity.expires_s:
            self.turn_away("token", "The token has expired and no other one was sent.", is_passing=True)
            return now_s + HELLO_S
        if now_s >= self._heard_s + 2 * SILENCE_S:
            self._receiver.figures.refused["silent"] += 1
            self.abort()
            return None
        return min(self._heard_s + 2 * SILENCE_S, self._identity.expires_s)

    # What it says

    def data_received(self, data: bytes) -> None:
        self._heard_s = now()
        if self._greeting == b"" and self._tls is None and data[:1] == _TLS_HANDSHAKE:
            self._begin_tls(data)
            return
        try:
            if self._greeting is not None:
                data = self._take_greeting(data)
            bodies = self._frames.feed(data)
            if self._is_busy or self._bodies:
                self._bodies += bodies
            elif bodies:
                self._bodies = bodies
                self._go_on()
        except WireError as error:
            self._wrong(error)

    def _begin_tls(self, data: bytes) -> None:
        context = self._receiver.tls()
        if context is None:
            self._receiver.figures.refused["tls"] += 1
            self.abort()
            return
        below = self._transport
        self._can_write = False  # nothing goes past TLS, a refusal neither
        self._tls = TlsTransport(context, lambda _: self, self._on_no_tls)
        below.set_protocol(self._tls)
        self._tls.connection_made(below)
        self._tls.data_received(data)

    def _on_no_tls(self, _: TlsTransport, failure: Exception | None) -> None:
        self._receiver.figures.refused["tls"] += 1
        self.connection_lost(failure)

    def _take_greeting(self, data: bytes) -> bytes:
        assert self._greeting is not None
        greeting = self._greeting + data[: len(PREAMBLE) - len(self._greeting)]
        if not PREAMBLE.startswith(greeting) and not PROVEN_PREAMBLE.startswith(greeting):
            raise WireError("the source speaks another protocol, or another version of this one")
        rest = data[len(greeting) - len(self._greeting) :]
        self._greeting = None if len(greeting) == len(PREAMBLE) else greeting
        self._preamble = greeting
        return rest

    def _wrong(self, error: WireError) -> None:
        self.turn_away("protocol", f"{error}.")

    def _go_on(self) -> None:
        """Deal with what it said, a slice in each turn of the loop; it is read again when that is all done."""
        try:
            count = 0
            for done, body in enumerate(self._bodies, 1):
                count += max(1, self._deal(body), len(body) // _BYTES_OF_ONE)
                if self._is_busy or count >= SLICE:
                    del self._bodies[:done]
                    break
            else:
                self._bodies = []
        except WireError as error:
            self._wrong(error)
            return
        self._spend(count)
        if self._bodies and not self._is_busy and not self._transport.is_closing():
            self._rest(0.0)

    def _spend(self, count: int) -> None:
        """Of what the source may say; who says too much is not read for as long as that is too much."""
        if self._pace is None or self._is_busy or self._transport.is_closing():
            return
        self._pace.refill(self._heard_s)
        self._pace.take(count)
        if self._pace.left < 0.0:
            self._receiver.figures.throttled += 1
            self._rest(self._pace.wait_s(0.0))

    def _rest(self, time_s: float) -> None:
        self._is_busy = True
        self._transport.pause_reading()
        asyncio.get_running_loop().call_later(time_s, self._rested)

    def _rested(self) -> None:
        self._is_busy = False
        if not self._transport.is_closing():
            self._heard_s = now()
            self._transport.resume_reading()
            self._go_on()

    def _deal(self, body: bytes) -> int:
        """Deal with one message; how many readings it had."""
        message = read_from_source(body if self._session is None else self._session.open(body))
        if self._heard is None:
            self._meet(message)
        elif isinstance(message, Token):
            self._judge(message.token, None)
        else:
            return self._heard.take(message)
        return 0

    def _meet(self, message: FromSource) -> None:
        """What is said before the source is known."""
        if self._preamble == PROVEN_PREAMBLE and self._session is None:
            if not isinstance(message, Challenge):
                raise WireError("the first message is not a challenge")
            self._prove(message)
        elif not isinstance(message, Hello):
            raise WireError("the first message is not a hello")
        elif self.proof == "none" and not self._receiver.takes_unproven:
            self.turn_away("unproven", "Reports are taken from sources that ask for TLS, or show a sidecar's key.")
        else:
            self._receiver.hear(self)
            self._judge(message.token, message)

    def _prove(self, challenge: Challenge) -> None:
        key = key_named(self._receiver.masters(), challenge.key)
        if key is None:
            self.turn_away(
                "key", "No autoscaler has made this sidecar's key; its pod has to be replaced.", is_passing=True
            )
            return
        nonce = os.urandom(NONCE_BYTES)
        session = Session(key, challenge.nonce, nonce, is_source=False)
        self.write(frame(Proof(nonce, session.proof)))
        self._session, self._key_name = session, key.name

    # Who it is

    def _judge(self, token: str, hello: Hello | None) -> None:
        self._is_busy = True
        self._transport.pause_reading()
        now_s = now()
        if hello is None:
            wait_s = max(0.0, self._token_s + TOKEN_GAP_S - now_s)
            self._token_s = now_s + wait_s
        else:
            may_wait_s = self._receiver.knocks.wait_s(self._address, now_s, most_s=KNOCK_S)
            if may_wait_s is None:
                self.put_off("This autoscaler has more tokens to judge than it takes.")
                return
            wait_s = may_wait_s
        if wait_s:
            self._receiver.figures.throttled += 1
        self._receiver.nursery.start(self._judge_and_go_on(token, hello, wait_s), name="authentication of a source")

    @property
    def _address(self) -> str:
        name = self._transport.get_extra_info("peername")
        return str(name[0]) if name else ""

    async def _judge_and_go_on(self, token: str, hello: Hello | None, wait_s: float) -> None:
        await asyncio.sleep(wait_s)
        verdict: Identity | Refused
        try:
            async with asyncio.timeout(HELLO_S):
                verdict = await self._receiver.authenticate(token)
        except TimeoutError:
            verdict = Refused("The token could not be judged in time.", is_passing=True)
        if self._transport.is_closing():
            return
        before = self._identity
        if isinstance(verdict, Refused) and verdict.is_passing and before is not None:
            self._rested()  # the old one holds until it expires, and who judges tokens may be back by then
        elif isinstance(verdict, Refused):
            why = "full" if verdict.come_again_s else "token"
            self.turn_away(
                why, verdict.reason, is_passing=verdict.is_passing, come_again_s=verdict.come_again_s
            )  # fmt: skip
        elif self._session is not None and verdict.service != service_of(self._key_name):
            self.turn_away("forged", f"The key is one of {service_of(self._key_name)}, and the token is not.")
        elif before is not None and (verdict.pod, verdict.service) != (before.pod, before.service):
            self.turn_away("forged", "The new token is somebody else's.")
        else:
            self._identity = verdict
            if hello is None or self._welcome(hello, verdict):
                self._rested()

    def _welcome(self, hello: Hello, identity: Identity) -> bool:
        source = source_of(hello, identity)
        if isinstance(source, Refused):
            self._receiver.figures.forged += 1
            self.turn_away("forged", source.reason)
            return False
        receiver, bounds = self._receiver, self._receiver.bounds
        receiver.know(self, source)
        self._source = source
        self._heard = Heard(source, self, receiver)
        per_s = bounds.readings_per_s_of_all if source.scope is None else bounds.readings_per_s
        self._pace = Bucket(per_s, per_s * bounds.burst_s)
        self._frames.most_bytes = MOST_BYTES if source.scope is None else MOST_BYTES_OF_ONE
        receiver.sweep.watch(self, now() + SILENCE_S)
        receiver.taker.heartbeat(source.name, source.incarnation, service=source.scope)
        self.write(frame(Welcome(receiver.is_leading())))
        if source.scope is not None:
            receiver.listener.on_source(source.name, source.incarnation)
        elif source.holds:
            receiver.listener.on_holder(source.name, source.incarnation, source.workers)
        return True
