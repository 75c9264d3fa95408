"""Chunks that go out as they came: only whole ones, only as they would be written, and only from a chunk's begin on."""

import itertools

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.fuzz import examples
from tests.zerogate.http.dialogue import request
from tests.zerogate.http.h1.test_turn import CHUNKED, Pool, Watched
from tests.zerogate.http.test_exchange_machine import Client
from zerogate.counters import Result
from zerogate.http.exchange import Exchange
from zerogate.http.h1.chunks import whole_chunks

EVENT = b"data: x\n\n"
ONE = b"9\r\ndata: x\n\n\r\n"


@pytest.mark.parametrize(
    ("data", "size"),
    [
        pytest.param(ONE, 9, id="one"),
        pytest.param(ONE + b"2\r\n\r\n\r\n", 11, id="two"),
        pytest.param(b"1a\r\n" + b"x" * 26 + b"\r\n", 26, id="two digits"),
        pytest.param(b"", 0, id="nothing"),
        pytest.param(ONE[:-1], 0, id="not to its end"),
        pytest.param(ONE + b"9", 0, id="a begin behind it"),
        pytest.param(ONE + b"0\r\n\r\n", 0, id="the last one behind it"),
        pytest.param(b"0\r\n\r\n", 0, id="the last one"),
        pytest.param(b"1A\r\n" + b"x" * 26 + b"\r\n", 0, id="upper case"),
        pytest.param(b"09\r\n" + EVENT + b"\r\n", 0, id="zeros before"),
        pytest.param(b"+9\r\n" + EVENT + b"\r\n", 0, id="a sign"),
        pytest.param(b" 9\r\n" + EVENT + b"\r\n", 0, id="a space"),
        pytest.param(b"0x9\r\n" + EVENT + b"\r\n", 0, id="a prefix"),
        pytest.param(b"1_0\r\n" + b"x" * 16 + b"\r\n", 0, id="an underscore"),
        pytest.param(b"-9\r\n" + EVENT + b"\r\n", 0, id="less than nothing"),
        pytest.param(b"9;a=b\r\n" + EVENT + b"\r\n", 0, id="an extension"),
        pytest.param(b"9\r\n" + EVENT + b"xx", 0, id="no end of line"),
        pytest.param(b"8\r\n" + EVENT + b"\r\n", 0, id="longer than it says"),
        pytest.param(b"\r\n", 0, id="an empty line"),
        pytest.param(b"1234567\r\n", 0, id="a long number"),
    ],
)
def test_only_whole_chunks_as_we_write_them_are_counted(data: bytes, size: int) -> None:
    assert whole_chunks(data) == size
    assert whole_chunks(data) == size, "and by what is remembered"


class ChunkClient(Client):
    """Takes chunks as they are, and writes down what the answer is by them."""

    takes_chunks = True

    def __init__(self) -> None:
        super().__init__()
        self.body = b""
        self.relayed = 0

    def send_data(self, data: bytes) -> None:
        super().send_data(data)
        self.body += data

    def send_chunks(self, chunks: bytes) -> None:
        assert self.state == "body"
        self.relayed += 1
        while chunks:
            line, _, chunks = chunks.partition(b"\r\n")
            size = int(line, 16)
            assert line == b"%x" % size
            assert chunks[size : size + 2] == b"\r\n"
            self.body += chunks[:size]
            chunks = chunks[size + 2 :]


class PlainClient(ChunkClient):
    """One of another version."""

    takes_chunks = False


def asked(client: ChunkClient) -> tuple[Exchange, Watched]:
    pool = Pool()
    exchange = Exchange(client, request(), 0.0)
    exchange.dispatch(pool, 0.0)
    turns = pool.made[-1]
    assert isinstance(turns, Watched)
    return exchange, turns


def test_events_go_out_as_they_came_once_one_has_been_read() -> None:
    client = ChunkClient()
    exchange, turns = asked(client)
    for data in (CHUNKED, ONE, ONE, ONE * 2):
        turns.take(data, 1.0)
    assert (client.relayed, client.body, exchange.bytes_out) == (2, EVENT * 4, 36)
    turns.take(b"0\r\n\r\n", 2.0)
    assert exchange.result is Result.SERVED


def test_what_is_not_read_to_a_chunks_end_is_taken_apart() -> None:
    """The begin of a chunk is one even where it looks like another chunk's end."""
    client = ChunkClient()
    exchange, turns = asked(client)
    for data in (CHUNKED + ONE, b"12\r\n", ONE, b"5678\r\n", ONE, b"0\r\n\r\n"):
        turns.take(data, 1.0)
    assert (client.relayed, client.body) == (1, EVENT + ONE + b"5678" + EVENT)
    assert exchange.result is Result.SERVED


def test_a_client_of_another_version_gets_the_body_alone() -> None:
    client = PlainClient()
    _, turns = asked(client)
    for data in (CHUNKED, ONE, ONE):
        turns.take(data, 1.0)
    assert (client.relayed, client.body) == (0, EVENT * 2)


SIZES = st.sampled_from([b"%x", b"%x", b"%x", b"%X", b"0%x", b"%x;a=b"])
BODIES = st.binary(min_size=1, max_size=40) | st.sampled_from([b"5\r\nhello\r\n", b"\r\n", b"0\r\n\r\n", ONE])


@pytest.mark.fuzz
@settings(max_examples=examples(300))
@given(chunks=st.lists(st.tuples(SIZES, BODIES), max_size=8), cuts=st.lists(st.integers(0, 400)), whole=st.booleans())
@example(chunks=[(b"%x", b"x"), (b"%x", ONE), (b"%x", b"x")], cuts=[4, 8], whole=False)
def test_however_chunks_look_and_come_the_answer_is_what_is_in_them(
    chunks: list[tuple[bytes, bytes]], cuts: list[int], whole: bool
) -> None:
    """`whole`: a read for each chunk; else they are cut anywhere."""
    framed = [size % len(body) + b"\r\n" + body + b"\r\n" for size, body in chunks] + [b"0\r\n\r\n"]
    stream = b"".join(framed)
    places = sorted({0, *(cut for cut in cuts if cut < len(stream)), len(stream)})
    reads = framed if whole else [stream[a:b] for a, b in itertools.pairwise(places)]
    client = ChunkClient()
    exchange, turns = asked(client)
    turns.take(CHUNKED, 0.0)
    for read in reads:
        turns.take(read, 1.0)
    assert client.body == b"".join(body for _, body in chunks)
    assert (exchange.result, exchange.bytes_out) == (Result.SERVED, len(client.body))
