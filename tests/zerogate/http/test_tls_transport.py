"""TLS between a protocol and a connection, in memory: what is kept of what comes when nobody reads it any more."""

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import Authority
from zerogate.http.certificates import server_contexts
from zerogate.http.tls_transport import RECORD_BYTES, TlsTransport


class Below:
    """The connection: keeps what is written to it."""

    def __init__(self) -> None:
        self.written = b""
        self.has_ended = False

    def write(self, data: bytes) -> None:
        self.written += data

    def write_eof(self) -> None:
        self.has_ended = True

    def close(self) -> None:
        self.has_ended = True


class Above(asyncio.Protocol):
    """The protocol: keeps what it is given."""

    def __init__(self) -> None:
        self.heard = b""

    def data_received(self, data: bytes) -> None:
        self.heard += data


class Spoken:
    """A transport whose handshake is done, and its client."""

    def __init__(self, folder: Path) -> None:
        authority = Authority()
        self.below, self.above = Below(), Above()
        context = server_contexts([authority.issue(folder, "server")], None).default
        self.tls = TlsTransport(context, lambda tls: self.above, lambda tls, failure: None)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._client = authority.trusted().wrap_bio(self._incoming, self._outgoing, server_hostname="127.0.0.1")
        below: Any = self.below
        self.tls.connection_made(below)
        with pytest.raises(ssl.SSLWantReadError):
            self._client.do_handshake()
        self._pass_on()
        self._incoming.write(self.below.written)
        self._client.do_handshake()
        self._pass_on()

    def _pass_on(self) -> None:
        self.tls.data_received(self._outgoing.read())

    def say(self, data: bytes) -> None:
        """The client sends."""
        view = memoryview(data)
        while view:
            view = view[self._client.write(view) :]
        self._pass_on()


def test_what_comes_is_decrypted_in_any_amount(tmp_path: Path) -> None:
    spoken = Spoken(tmp_path)
    for size in (1, RECORD_BYTES, 10 * RECORD_BYTES + 1):
        spoken.above.heard = b""
        spoken.say(bytes(size))
        assert len(spoken.above.heard) == size


@pytest.mark.parametrize("how", ["write_eof", "close"])
@pytest.mark.parametrize("size", [100, 10 * RECORD_BYTES], ids=["little", "much"])
def test_what_comes_behind_our_goodbye_is_dropped_and_kept_nowhere(tmp_path: Path, how: str, size: int) -> None:
    """A client that is refused may be sending for seconds still."""
    spoken = Spoken(tmp_path)
    getattr(spoken.tls, how)()
    spoken.say(bytes(size))
    assert (spoken.above.heard, spoken.tls._incoming.pending, spoken.below.has_ended) == (b"", 0, True)
