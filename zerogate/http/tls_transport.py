"""TLS over one connection: bytes of the network on one side, an ordinary transport on the other.

The loop's own TLS hides what is needed here: how much lies unsent below it, whether the other side said its goodbye
(`close_notify`) or was cut off, and bytes that were read before TLS began. This layer is synchronous: what is written
is encrypted at once and given to the connection below, so there is one buffer and its backpressure reaches the protocol
above. `close` says goodbye and closes without waiting for the other side's (RFC 8446 section 6.1 allows it); `abort`
says nothing, which the other side can tell from an end. `eof_received` of the protocol above is called for a goodbye
and for nothing else: an answer that ends with its connection is whole only then.

OpenSSL answers as many KeyUpdate as it is sent, whether or not the answers are read, and takes 12 to 23 µs for each 27
bytes of them, which come by thousands in one read: a connection that spends `IDLE_RECORDS` is cut.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from zerogate.clock import now
from zerogate.http.h2.limits import Budget
from zerogate.http.sweep import NEVER, Sweep
from zerogate.http.tls_records import RecordCount

log = logging.getLogger(__name__)

RECORD_BYTES: Final = 16 * 1024
"""Most plaintext of one record, and what is encrypted or decrypted in one call: OpenSSL's buffers stay that small."""

IDLE_RECORDS: Final = (64, 1.0)
"""Records without data, so many at once and so many a second: handshakes have up to ten, servers send two tickets, and
keys are changed after gigabytes."""

Ready = Callable[["TlsTransport"], asyncio.Protocol]
"""The handshake is done: says what speaks above it."""
Failed = Callable[["TlsTransport", Exception | None], None]
"""There will be no connection; `None`: the other side went away."""


class HandshakeTimeoutError(TimeoutError):
    """The handshake took too long."""


class TlsTransport(asyncio.Protocol):
    """See the module's text. Protocol of the connection below, transport of the protocol above."""

    __slots__ = (
        "_app", "_deadline_s", "_failed", "_has_ended", "_idle", "_incoming", "_outgoing", "_raw", "_ready", "_records",
        "_sweep", "_undelivered", "ssl", "tick", "visit_s",
    )  # fmt: skip

    def __init__(
        self,
        context: ssl.SSLContext,
        ready: Ready,
        failed: Failed,
        *,
        server_name: str | None = None,
        sweep: Sweep | None = None,
        deadline_s: float = NEVER,
    ) -> None:
        """Server side where there is no `server_name`. With a sweep, the handshake has to be done at `deadline_s`."""
        self._ready: Ready | None = ready
        self._failed: Failed | None = failed
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.ssl = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_name is None, server_hostname=server_name
        )
        self._raw: Any = None
        self._app: asyncio.Protocol | None = None
        self._has_ended = False
        """Our goodbye was said: nothing more can be written."""
        self._records = RecordCount()
        self._undelivered = 0
        """Records that have begun to come and have brought no data, beyond those that were paid for."""
        self._idle = Budget(*IDLE_RECORDS, now())
        self._sweep = sweep
        self._deadline_s = deadline_s
        self.tick = 0
        self.visit_s = NEVER

    # The protocol of the connection below

    def connection_made(self, transport: Any) -> None:
        self._raw = transport
        if self._sweep is not None:
            self._sweep.watch(self, self._deadline_s)
        self._shake()

    def data_received(self, data: bytes) -> None:
        if self._has_ended:
            return  # what comes after our goodbye is dropped: it is not asked for, and need not be decrypted
        if len(data) <= RECORD_BYTES:
            self._take(data)
            return
        view = memoryview(data)
        for at in range(0, len(view), RECORD_BYTES):
            if not self._has_ended:
                self._take(view[at : at + RECORD_BYTES])

    def _take(self, data: bytes | memoryview) -> None:
        self._undelivered += self._records.take(data)
        self._incoming.write(data)
        if self._app is None:
            self._shake()
        if self._app is not None and not self._has_ended:
            self._read(self._app)

    def _read(self, app: asyncio.Protocol) -> None:
        """Decrypt what is there and pass it on in one piece."""
        pieces = []
        has_goodbye = False
        incoming, tls = self._incoming, self.ssl
        try:
            while incoming.pending or tls.pending():
                piece = tls.read(RECORD_BYTES)
                if not piece:
                    has_goodbye = True
                    break
                pieces.append(piece)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as failure:
            self._break(failure)
            return
        self._undelivered -= len(pieces)
        if self._undelivered > 1 and not self._pay():  # one may not be whole yet
            log.debug("a connection of TLS brings records without data")
            self.abort()
            return
        if self._outgoing.pending:
            self._raw.write(self._outgoing.read())
        if pieces:
            app.data_received(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if has_goodbye:
            if self._app is not None:  # what it read may have changed the protocol above
                self._app.eof_received()
            self.close()

    def _pay(self) -> bool:
        """For the records that brought no data; whether there was enough."""
        now_s = now()
        while self._undelivered > 1:
            if not self._idle.spend(now_s):
                return False
            self._undelivered -= 1
        return True

    def eof_received(self) -> None:
        """The connection below ended; whether with a goodbye, `_read` has seen."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        self._has_ended = True
        app, self._app = self._app, None
        if app is not None:
            app.connection_lost(exc)
        elif self._failed is not None:
            self._fail(exc)

    def pause_writing(self) -> None:
        if self._app is not None:
            self._app.pause_writing()

    def resume_writing(self) -> None:
        if self._app is not None:
            self._app.resume_writing()

    # The handshake

    def _shake(self) -> None:
        try:
            self.ssl.do_handshake()
        except ssl.SSLWantReadError:
            self._send_pending()
            return
        except (ssl.SSLError, ssl.CertificateError) as failure:
            self._break(failure)
            return
        self._send_pending()
        self._forget()
        ready, self._ready, self._failed = self._ready, None, None
        assert ready is not None
        self._app = app = ready(self)
        app.connection_made(self)  # type: ignore[arg-type]

    def _send_pending(self) -> None:
        if self._outgoing.pending:
            self._raw.write(self._outgoing.read())

    def _break(self, failure: Exception) -> None:
        """Something that is no TLS came: send the alert that says so, and close."""
        self._has_ended = True
        self._send_pending()
        if self._failed is not None:
            self._fail(failure)
        self._raw.close()

    def _fail(self, failure: Exception | None) -> None:
        failed, self._failed, self._ready = self._failed, None, None
        assert failed is not None
        failed(self, failure)

    def due(self, now_s: float) -> float | None:
        """The sweep's visit."""
        if self._failed is None:
            return None
        if now_s < self._deadline_s:
            return self._deadline_s
        self._has_ended = True
        self._fail(HandshakeTimeoutError("the TLS handshake took too long"))
        self._raw.abort()
        return None

    def _forget(self) -> None:
        if self._sweep is not None:
            self._sweep.forget(self)

    # The transport of the protocol above

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """From now on this one hears what comes; after the loss of the connection nobody does."""
        if self._app is not None:
            self._app = protocol  # type: ignore[assignment]

    def get_protocol(self) -> asyncio.BaseProtocol | None:
        """Who hears what comes."""
        return self._app

    def write(self, data: bytes) -> None:
        """Encrypt and send."""
        if self._has_ended or not data:
            return
        outgoing, tls = self._outgoing, self.ssl
        try:
            if len(data) <= RECORD_BYTES:
                tls.write(data)
                self._raw.write(outgoing.read())
                return
            pieces = []
            view = memoryview(data)
            while view:
                view = view[tls.write(view[:RECORD_BYTES]) :]
                pieces.append(outgoing.read())
            self._raw.write(b"".join(pieces))
        except ssl.SSLError:
            self.abort()

    def write_raw(self, data: bytes) -> None:
        """Send without TLS: only for a client that does not speak it."""
        self._raw.write(data)

    def can_write_eof(self) -> bool:
        return bool(self._raw.can_write_eof())

    def write_eof(self) -> None:
        """Say goodbye and end our side; what comes is dropped from now on."""
        self._say_goodbye()
        self._raw.write_eof()

    def close(self) -> None:
        """Say goodbye, send what is left, close."""
        self._say_goodbye()
        self._raw.close()

    def abort(self) -> None:
        """Close at once, without a goodbye."""
        self._has_ended = True
        if self._raw is not None:
            self._raw.abort()

    def _say_goodbye(self) -> None:
        if self._has_ended or self._app is None:
            return
        self._has_ended = True
        # it has not said its own, or sends on: neither is waited for
        with suppress(ssl.SSLError):
            self.ssl.unwrap()
        self._send_pending()

    def is_closing(self) -> bool:
        return self._has_ended or bool(self._raw.is_closing())

    def pause_reading(self) -> None:
        self._raw.pause_reading()

    def resume_reading(self) -> None:
        self._raw.resume_reading()

    def get_write_buffer_size(self) -> int:
        return int(self._raw.get_write_buffer_size())

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._raw.set_write_buffer_limits(high=high, low=low)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.ssl if name == "ssl_object" else self._raw.get_extra_info(name, default)
