"""The body of a request on its way from client to replica: kept, passed on, forgotten. Pure: `now_s` is an argument.

It is independent of the phases: chunks are kept while there is nowhere to send them (up to a mark, then the client is
not read any more), are passed on as they come afterwards, and stay a little longer where they may have to be sent
again. Somebody may read along before it is sent: a model is looked for, or the begin of a prompt.

Invariant: what is kept counts in the process's memory for bodies exactly as long as it is kept. Subclassed by
`zerogate.http.exchange`, because a call between the two would be one for each chunk.
"""

from typing import TYPE_CHECKING, Final

from zerogate.http.endings import Endings
from zerogate.http.heads import Field
from zerogate.http.phases import ANSWERING, ENDED, SENT
from zerogate.http.sides import BodyReader, UpstreamConnection

if TYPE_CHECKING:
    from zerogate.http.exchange import Exchange

REPLAY_BYTES: Final = 64 * 1024
"""Body kept after it was sent, where the request may be sent again."""
REFUSABLE_BYTES: Final = 16 * 1024 * 1024
"""The same until a sidecar has let it in, which takes a round trip."""


class KeptBody(Endings):
    """See the module's text."""

    __slots__ = ()

    def read_body(self, reader: BodyReader, now_s: float) -> None:
        """Hand `reader` what came of the body and what comes, until `stop_reading`; everything is kept meanwhile."""
        self.reader = reader
        if self.head.expects_continue and not self.bytes_in:
            self.downstream.send_informational(100, b"Continue", b"")
        for chunk in tuple(self.chunks or ()):
            if self.reader is not None:
                reader.on_chunk(chunk, now_s)
        if self.reader is not None:
            if self.is_request_done:
                reader.on_end(now_s)
            else:
                self.downstream.resume_body()

    def stop_reading(self) -> None:
        """The reader knows enough."""
        self.reader = None

    def on_request_data(self, data: bytes, now_s: float) -> None:
        """A piece of the request's body."""
        size = len(data)
        self.bytes_in += size
        self.last_byte_s = now_s
        if self.bytes_in > self.terms.body_limit_bytes:
            self.end_over_limit(now_s)
            return
        if self.phase == SENT or self.phase == ANSWERING:
            if self.connection is not None:
                self.connection.send_data(data)
            if self.chunks is not None:
                self._keep(data, size)
                if self.buffered_bytes > self.replay_bytes or self.downstream.memory.is_full:
                    self._forget_body()
            return
        if self.phase == ENDED:
            return
        if self.chunks is None:
            self.chunks = []
        self._keep(data, size)
        if self.reader is not None:
            self.reader.on_chunk(data, now_s)
        elif self.buffered_bytes >= self.keep_bytes or self.downstream.memory.is_full:
            self.downstream.pause_body()

    def on_request_end(self, trailers: list[Field], now_s: float) -> None:
        """The request's last byte has come."""
        self.is_request_done = True
        self.trailers = trailers
        if self.phase == SENT:
            if self.head.has_body and self.connection is not None:
                self.deadline_s = now_s + self.terms.first_byte_s
                self.connection.send_end(trailers)
        elif self.phase == ANSWERING:
            if self.connection is not None:
                self.connection.send_end(trailers)
        elif self.reader is not None:
            self.reader.on_end(now_s)

    def _send_body(self, connection: "UpstreamConnection[Exchange]") -> None:
        """Send what has come of the body, and let the client send the rest."""
        if self.head.expects_continue and not self.bytes_in:
            self.downstream.send_informational(100, b"Continue", b"")
        if not self.is_request_done:
            self.downstream.resume_body()  # before anything is sent: what was kept may be all that the replica takes
        for chunk in self.chunks or ():
            connection.send_data(chunk)
        self._keep_for_again(connection)
        if self.is_request_done:
            connection.send_end(self.trailers)

    def _keep(self, data: bytes, size: int) -> None:
        if self.chunks is not None:
            self.chunks.append(data)
        self.buffered_bytes += size
        self.downstream.memory.used_bytes += size

    def _keep_for_again(self, connection: "UpstreamConnection[Exchange]") -> None:
        """Keep what was sent of the body where it may have to be sent again."""
        if self.upstream is not None and self.upstream.pool.may_turn_away:
            self.replay_bytes = REFUSABLE_BYTES
        else:
            self.replay_bytes = REPLAY_BYTES if self._may_repeat or connection.may_refuse else 0
        if self.buffered_bytes > self.replay_bytes or not self.replay_bytes:
            self._forget_body()
        elif self.chunks is None:
            self.chunks = []
