"""Signs of life for a client that waits for a stream while its model starts. Pure.

Balancers and clients give up on a connection that is silent for a minute, and a cold start may take ten. Where the
policy asks for it, a held request for a stream of events gets its answer's head early, and then a comment now and then,
which every reader of event streams skips. The price is that the status is said before it is known: what would have been
an error's status arrives as an event called `error`, whose data is the error's body.

`HeldStream` stands between an exchange and its client from the first comment on. Called by `exchange`.
"""

from typing import Any, Final

import msgspec

from zerogate.errors import UNREADABLE, Refusal
from zerogate.http.answers import render
from zerogate.http.heads import Field, RequestHead, ResponseHead, field_of
from zerogate.http.memory import BufferMemory
from zerogate.http.sides import Arrival, Downstream, TunnelClient

PEEKED_BYTES: Final = 1024 * 1024
"""Bodies of at most this size are asked whether they want a stream; decoding one takes about a millisecond."""
ERROR_BYTES: Final = 64 * 1024
"""Of a replica's error that are passed on."""
_EVENT_STREAM: Final = b"text/event-stream"
_COMMENT: Final = b": held\n\n"

_HEAD: Final = ResponseHead(
    status=200,
    reason=b"OK",
    lines=b"Content-Type: text/event-stream\r\nCache-Control: no-cache\r\nX-Accel-Buffering: no\r\n",
    content_length=None,
    chunked=True,
    keep_alive=True,
    field_count=3,
)
"""X-Accel-Buffering: nginx in front would keep the comments back."""


class _Asked(msgspec.Struct):
    stream: Any = None


def asks_for_stream(head: RequestHead, body: list[bytes] | None) -> bool:
    """Whether the request wants a stream of events: by its Accept, or by `"stream": true` as OpenAI's clients do."""
    if head.websocket_key is not None or head.method == b"HEAD":  # to HEAD a comment would be the next answer
        return False
    if _EVENT_STREAM in (head.field(b"accept") or b"").lower():
        return True
    if not body or head.content_encoding is not None or b"json" not in (head.content_type or b"").lower():
        return False
    if sum(map(len, body)) > PEEKED_BYTES:
        return False
    try:
        return msgspec.json.decode(b"".join(body), type=_Asked).stream is True
    except UNREADABLE:
        return False


class HeldStream:
    """The client's side of an exchange whose answer has begun with comments. See the module's text."""

    __slots__ = ("_client", "_error", "_head")

    def __init__(self, client: Downstream[Any], head: RequestHead) -> None:
        self._client = client
        self._head = head
        self._error: list[bytes] | None = None
        """What came of an answer that is not the stream that was begun."""
        client.send_head(_HEAD, extra=b"", has_body=True)

    def beat(self) -> None:
        """Say that the request is still held."""
        self._client.send_data(_COMMENT)
        self._client.flush()

    # What an exchange asks for

    @property
    def memory(self) -> BufferMemory:
        return self._client.memory

    @property
    def visit_s(self) -> float:
        return self._client.visit_s

    @property
    def peer(self) -> bytes:
        return self._client.peer

    @property
    def arrival(self) -> Arrival:
        return self._client.arrival

    @property
    def http_version(self) -> str:
        return self._client.http_version

    def send_informational(self, status: int, reason: bytes, lines: bytes) -> None:
        """Nothing: the answer's head is out."""

    def send_head(self, head: ResponseHead, *, extra: bytes, has_body: bool) -> None:
        is_stream = (field_of(head.lines, b"content-type") or b"").lower().startswith(_EVENT_STREAM)
        if head.status != 200 or not is_stream or field_of(head.lines, b"content-encoding") is not None:
            self._error = []

    def send_data(self, data: bytes) -> None:
        if self._error is None:
            self._client.send_data(data)
        elif sum(map(len, self._error)) < ERROR_BYTES:
            self._error.append(data)

    def send_end(self, trailers: list[Field]) -> None:
        if self._error is not None:
            self._send_error(b"".join(self._error)[:ERROR_BYTES])
        else:
            self._client.send_end(trailers)

    def send_whole(self, head: ResponseHead, body: bytes, extra: bytes) -> None:
        self.send_head(head, extra=extra, has_body=True)
        self.send_data(body)
        self.send_end([])

    @property
    def takes_chunks(self) -> bool:
        return self._error is None and self._client.takes_chunks

    def send_chunks(self, chunks: bytes) -> None:
        self._client.send_chunks(chunks)

    def flush(self) -> None:
        self._client.flush()

    def send_refusal(self, refusal: Refusal, *, extra: bytes) -> None:
        self._send_error(render(refusal, openai_shape=self._head.target.startswith(b"/v1/")).body)

    def send_answer(self, status: int, headers: tuple[Field, ...], body: bytes) -> None:
        """Never: what zerogate answers itself is not held before."""

    def _send_error(self, body: bytes) -> None:
        lines = b"".join(b"data: %b\n" % line for line in body.splitlines() or [b""])
        self._client.send_data(b"event: error\n%b\n" % lines)
        self._client.send_end([])

    def reset(self) -> None:
        self._client.reset()

    def pause_body(self) -> None:
        self._client.pause_body()

    def resume_body(self) -> None:
        self._client.resume_body()

    def watch(self, deadline_s: float) -> None:
        self._client.watch(deadline_s)

    @property
    def tunnel_side(self) -> TunnelClient:
        return self._client.tunnel_side

    def on_ended(self, exchange: Any) -> None:
        self._client.on_ended(exchange)
