"""One meaning or a refusal: the corpora, read whole and byte by byte."""

from collections.abc import Callable

import pytest

from tests.zerogate.http.h1.corpus import CHUNKED, GET, POST, REFUSED, REFUSED_BODIES, UNDERSTOOD, Meaning
from tests.zerogate.http.h1.reading import read
from zerogate.http.h1 import reader
from zerogate.http.h1.rtsp import Line, rtsp_lines
from zerogate.http.heads import MAX_FIELDS, MAX_HEAD_BYTES, MAX_TARGET_BYTES

ALL_REFUSED = {**REFUSED, **REFUSED_BODIES}


@pytest.mark.parametrize(("data", "status"), ALL_REFUSED.values(), ids=ALL_REFUSED)
@pytest.mark.parametrize("size", [1, 7, 1 << 20], ids=["by-bytes", "by-sevens", "whole"])
def test_what_has_no_single_meaning_is_refused(data: bytes, status: int, size: int) -> None:
    if size == 1 and len(data) > 100_000:
        size = 100
    seen = read(data, size)
    assert (seen.status, seen.meanings) == (status, [])


@pytest.mark.parametrize(("data", "meanings"), UNDERSTOOD.values(), ids=UNDERSTOOD)
@pytest.mark.parametrize("size", [1, 7, 1 << 20], ids=["by-bytes", "by-sevens", "whole"])
def test_what_has_one_meaning_is_understood(data: bytes, meanings: list[Meaning], size: int) -> None:
    seen = read(data, size)
    assert (seen.status, seen.meanings) == (None, meanings)


@pytest.mark.parametrize(
    "before",
    [
        pytest.param(GET + b"\r\n", id="a head"),
        pytest.param(POST + b"Content-Length: 5\r\n\r\nhello", id="a body"),
        pytest.param(CHUNKED + b"1\r\na\r\n0\r\nX: y\r\n\r\n", id="trailers"),
    ],
)
@pytest.mark.parametrize("size", range(1, 120))
def test_another_protocol_behind_a_request_is_refused_wherever_the_reads_are_cut(before: bytes, size: int) -> None:
    seen = read(before + b"GET /path RTSP/1.0\r\nHost: a\r\n\r\n" + GET + b"\r\n", size)
    assert (seen.status, len(seen.meanings)) == (400, 1)


@pytest.mark.parametrize("offer", [b"", b"Connection: Upgrade\r\nUpgrade: h2c\r\n"], ids=["plain", "offers"])
def test_a_read_is_searched_for_another_protocol_once_however_many_requests_it_holds(
    monkeypatch: pytest.MonkeyPatch, offer: bytes
) -> None:
    searched: list[bytes] = []

    def noted(data: bytes) -> frozenset[Line]:
        searched.append(data)
        return rtsp_lines(data)

    monkeypatch.setattr(reader, "rtsp_lines", noted)
    many = (GET + offer + b"\r\n") * 50 + POST + b"Content-Length: 7\r\n\r\n RTSP/1"
    assert len(read(many, len(many)).meanings) == 51
    assert searched == [many]


def _with_target(size: int) -> bytes:
    return b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % (b"x" * (size - 1))


def _with_fields(count: int) -> bytes:
    return b"GET / HTTP/1.1\r\nHost: a\r\n%b\r\n" % (b"X: y\r\n" * (count - 1))


def _of_size(size: int) -> bytes:
    head = b"GET / HTTP/1.1\r\nHost: a\r\nX: %b\r\n\r\n"
    return head % (b"y" * (size - len(head) + 2))


@pytest.mark.parametrize(
    ("made", "most", "status"),
    [(_with_target, MAX_TARGET_BYTES, 414), (_with_fields, MAX_FIELDS, 431), (_of_size, MAX_HEAD_BYTES, 431)],
    ids=["target", "fields", "size"],
)
@pytest.mark.parametrize("size", [997, 1 << 20], ids=["in pieces", "whole"])
def test_a_head_at_a_bound_is_taken_and_one_beyond_it_is_not(
    made: Callable[[int], bytes], most: int, status: int, size: int
) -> None:
    at_bound = read(made(most), size)
    assert (at_bound.status, len(at_bound.meanings)) == (None, 1)
    beyond = read(made(most + (64 if made is _of_size else 1)), size)
    assert (beyond.status, beyond.meanings) == (status, [])
