"""What the reader of requests makes of bytes, without a connection."""

import msgspec

from tests.zerogate.http.h1.corpus import Meaning
from zerogate.http.h1.reader import RequestReader
from zerogate.http.heads import BadMessageError, Field, RequestHead


class Seen(msgspec.Struct):
    """The whole requests that were read, and the status of the refusal, if there was one."""

    meanings: list[Meaning]
    status: int | None = None


class _Recorder:
    def __init__(self) -> None:
        self.meanings: list[Meaning] = []
        self._head: RequestHead | None = None
        self._body = b""

    def on_begin(self) -> None:
        pass

    def on_head(self, head: RequestHead) -> None:
        self._head, self._body = head, b""

    def on_body(self, data: bytes) -> None:
        self._body += data

    def on_end(self, trailers: list[Field]) -> None:
        assert self._head is not None
        self.meanings.append((self._head.method, self._head.host, self._head.target, self._body))

    def on_flood(self) -> None:
        pass


def read(data: bytes, size: int = 1 << 20) -> Seen:
    """Read `data` in pieces of `size` bytes, up to the first refusal."""
    recorder = _Recorder()
    reader = RequestReader(recorder)
    try:
        for at in range(0, len(data), size):
            reader.feed(data[at : at + size])
    except BadMessageError as bad:
        return Seen(recorder.meanings, bad.status)
    return Seen(recorder.meanings)
