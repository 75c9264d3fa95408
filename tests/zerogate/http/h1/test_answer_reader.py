"""Answers as replicas write them that are attacked, broken or somebody else's: one meaning, or none is passed on.

The names say what is odd. Where two readers of an answer disagree about its end, the next client gets the rest of it.
"""

from typing import Final

import pytest

from zerogate.http.h1.answer_reader import AnswerReader
from zerogate.http.heads import MAX_FIELDS, BadMessageError, Field, ResponseHead

BEGIN: Final = b"HTTP/1.1 200 OK\r\n"
COUNTED: Final = b"Content-Length: 2\r\n"
CHUNKED: Final = b"Transfer-Encoding: chunked\r\n"
CHUNKS: Final = b"\r\n2\r\nok\r\n0\r\n\r\n"

REFUSED: Final = {
    "length-twice-equal": BEGIN + COUNTED + COUNTED + b"\r\nok",
    "length-twice-different": BEGIN + COUNTED + b"Content-Length: 5\r\n\r\nokxxx",
    "length-list": BEGIN + b"Content-Length: 2, 2\r\n\r\nok",
    "length-signed": BEGIN + b"Content-Length: +2\r\n\r\nok",
    "both-framings": BEGIN + COUNTED + CHUNKED + CHUNKS,
    "both-framings-reversed": BEGIN + CHUNKED + COUNTED + CHUNKS,
    "coding-gzip-chunked": BEGIN + b"Transfer-Encoding: gzip, chunked\r\n" + CHUNKS,
    "coding-chunked-gzip": BEGIN + b"Transfer-Encoding: chunked, gzip\r\n" + CHUNKS,
    "coding-twice": BEGIN + CHUNKED + CHUNKED + CHUNKS,
    "coding-identity": BEGIN + b"Transfer-Encoding: identity\r\n\r\nok",
    "coding-empty": BEGIN + b"Transfer-Encoding:\r\n" + COUNTED + b"\r\nok",
    "coding-in-1.0": b"HTTP/1.0 200 OK\r\n" + CHUNKED + CHUNKS,
    "lines-end-with-lf": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "one-line-ends-with-cr": BEGIN + b"X: 1\rY: 2\r\n" + COUNTED + b"\r\nok",
    "field-folded": BEGIN + b"X: 1\r\n 2\r\n" + COUNTED + b"\r\nok",
    "name-before-a-space": BEGIN + b"X : 1\r\n" + COUNTED + b"\r\nok",
    "name-empty": BEGIN + b": 1\r\n" + COUNTED + b"\r\nok",
    "name-with-parentheses": BEGIN + b"X(): 1\r\n" + COUNTED + b"\r\nok",
    "value-with-nul": BEGIN + b"X: a\0b\r\n" + COUNTED + b"\r\nok",
    "value-with-a-control": BEGIN + b"X: a\x01b\r\n" + COUNTED + b"\r\nok",
    "reason-with-a-control": b"HTTP/1.1 200 O\x01K\r\n" + COUNTED + b"\r\nok",
    "reason-with-nul": b"HTTP/1.1 200 \0\r\n" + COUNTED + b"\r\nok",
    "reason-with-cr": b"HTTP/1.1 200 O\rK\r\n" + COUNTED + b"\r\nok",
    "status-below": b"HTTP/1.1 099 X\r\n" + COUNTED + b"\r\nok",
    "status-above": b"HTTP/1.1 600 X\r\n" + COUNTED + b"\r\nok",
    "status-of-two-digits": b"HTTP/1.1 20 X\r\n" + COUNTED + b"\r\nok",
    "another-version": b"HTTP/2.0 200 OK\r\n" + COUNTED + b"\r\nok",
    "no-version": b"ok\r\n",
    "chunk-size-none": BEGIN + CHUNKED + b"\r\nzz\r\nok\r\n",
    "chunk-size-negative": BEGIN + CHUNKED + b"\r\n-2\r\nok\r\n",
    "chunk-size-beyond-64-bits": BEGIN + CHUNKED + b"\r\nfffffffffffffffff\r\nok\r\n",
    "chunk-ended-by-lf": BEGIN + CHUNKED + b"\r\n2\nok\n0\n\n",
    "length-in-trailers": BEGIN + CHUNKED + b"\r\n0\r\nContent-Length: 2\r\n\r\n",
    "many-fields": BEGIN + b"a:\r\n" * 200 + COUNTED + b"\r\nok",
    "many-fields-without-an-end": BEGIN + b"a:\r\n" * 200,
    "many-trailers-without-an-end": BEGIN + CHUNKED + b"\r\n0\r\n" + b"a:\r\n" * 200,
}
TAKEN: Final = {
    "counted": BEGIN + COUNTED + b"\r\nok",
    "chunked": BEGIN + CHUNKED + CHUNKS,
    "no-reason": b"HTTP/1.1 200\r\n" + COUNTED + b"\r\nok",
    "reason-with-high-bytes": b"HTTP/1.1 200 caf\xe9\r\n" + COUNTED + b"\r\nok",
    "reason-with-a-tab": b"HTTP/1.1 200 a\tb\r\n" + COUNTED + b"\r\nok",
    "version-1.0": b"HTTP/1.0 200 OK\r\n" + COUNTED + b"\r\nok",
    "length-behind-spaces": BEGIN + b"Content-Length: \t 2 \r\n\r\nok",
    "coding-behind-spaces": BEGIN + b"Transfer-Encoding:  chunked \r\n" + CHUNKS,
    "hints-with-a-framing": b"HTTP/1.1 103 Hints\r\n" + CHUNKED + b"\r\n" + BEGIN + COUNTED + b"\r\nok",
    "as-many-fields-as-allowed": BEGIN + COUNTED + b"a:\r\n" * (MAX_FIELDS - 1) + b"\r\nok",
}


class Heard:
    """Listens to the answers of one connection."""

    def __init__(self) -> None:
        self.heads: list[int] = []
        self.body = b""
        self.ends = 0

    def on_begin(self) -> None: ...

    def on_head(self, head: ResponseHead, fields: list[Field]) -> None:
        self.heads.append(head.status)

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_end(self, trailers: list[Field], *, keep_alive: bool) -> None:
        self.ends += 1

    def hear(self, data: bytes, size: int) -> None:
        """All of it, in pieces."""
        reader = AnswerReader(self)
        for at in range(0, len(data), size):
            reader.feed(data[at : at + size])


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("size", [1, 7, 1 << 20], ids=["by-bytes", "by-sevens", "whole"])
def test_an_answer_without_one_meaning_is_refused_before_its_end(data: bytes, size: int) -> None:
    heard = Heard()
    with pytest.raises(BadMessageError) as refused:
        heard.hear(data, size)
    assert refused.value.status == 502
    assert heard.ends == 0


@pytest.mark.parametrize("data", TAKEN.values(), ids=TAKEN)
@pytest.mark.parametrize("size", [1, 7, 1 << 20], ids=["by-bytes", "by-sevens", "whole"])
def test_an_odd_answer_with_one_meaning_is_taken(data: bytes, size: int) -> None:
    heard = Heard()
    heard.hear(data, size)
    assert (heard.heads[-1], heard.body, heard.ends) == (200, b"ok", len(heard.heads))
