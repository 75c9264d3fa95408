"""What RFC 9113 forbids a client, one case per rule, by section: which stream or connection ends, and how."""

import pytest

from tests.zerogate.http.h2.dialogue import GET, OK, POST, Talk
from zerogate.http.h2 import frames as f

OPEN = 1
ENDED = 3
"""A stream whose request is complete and whose answer is not."""
CLOSED = 5
IDLE = 9


def talk() -> Talk:
    """A connection with one stream in each state."""
    one = Talk()
    one.headers(OPEN, POST, end=False)
    one.headers(ENDED, GET)
    one.headers(CLOSED, GET)
    one.connection.send_head(one.stream(CLOSED), OK, end=True)
    one.flush()
    one.hear()
    return one


def block(one: Talk, *more: tuple[bytes, bytes]) -> bytes:
    return one.encoder.encode([*GET, *more])


def word(value: int) -> bytes:
    return f.WORD.pack(value)


OF_THE_CONNECTION = {
    "3.4 SETTINGS first": (None, f.frame(f.PING, 0, 0, b"12345678"), f.PROTOCOL_ERROR),
    "3.4 not an acknowledgement first": (None, f.frame(f.SETTINGS, f.ACK, 0), f.PROTOCOL_ERROR),
    "4.2 a frame larger than announced": (0, f.frame(f.DATA, 0, OPEN, b"x" * 16_385), f.FRAME_SIZE_ERROR),
    "4.2 a head larger than a frame": (0, f.frame(f.HEADERS, 4, IDLE, b"x" * 16_385), f.FRAME_SIZE_ERROR),
    "4.3 a block that cannot be read": (0, f.frame(f.HEADERS, 5, IDLE, b"\x80"), f.COMPRESSION_ERROR),
    "4.3 the block of a stream that is refused": (0, f.frame(f.HEADERS, 5, OPEN, b"\x80"), f.COMPRESSION_ERROR),
    "5.1 DATA on an idle stream": (0, f.frame(f.DATA, 0, IDLE, b"x"), f.PROTOCOL_ERROR),
    "5.1 WINDOW_UPDATE on an idle stream": (0, f.window_frame(IDLE, 1), f.PROTOCOL_ERROR),
    "5.1 RST_STREAM on an idle stream": (0, f.reset_frame(IDLE, f.CANCEL), f.PROTOCOL_ERROR),
    "5.1 CONTINUATION on an idle stream": (0, f.frame(f.CONTINUATION, 4, IDLE, b"\x82"), f.PROTOCOL_ERROR),
    "5.1 DATA on a closed stream": (0, f.frame(f.DATA, 0, CLOSED, b"x"), f.STREAM_CLOSED),
    "5.1 HEADERS on a closed stream": (0, f.frame(f.HEADERS, 5, CLOSED, b"\x82"), f.STREAM_CLOSED),
    "5.1.1 an even stream": (0, f.frame(f.HEADERS, 5, 8, b"\x82"), f.PROTOCOL_ERROR),
    "5.1.1 stream 0": (0, f.frame(f.HEADERS, 5, 0, b"\x82"), f.PROTOCOL_ERROR),
    "6.1 DATA without a stream": (0, f.frame(f.DATA, 0, 0, b"x"), f.PROTOCOL_ERROR),
    "6.1 padding as long as the payload": (0, f.frame(f.DATA, f.PADDED, OPEN, b"\x02x"), f.PROTOCOL_ERROR),
    "6.1 a padded frame without its length": (0, f.frame(f.DATA, f.PADDED, OPEN), f.FRAME_SIZE_ERROR),
    "6.2 padding as long as the block": (0, f.frame(f.HEADERS, f.PADDED | 5, IDLE, b"\x05\x82"), f.PROTOCOL_ERROR),
    "6.2 less than a priority": (0, f.frame(f.HEADERS, f.HAS_PRIORITY | 5, IDLE, b"\0\0"), f.FRAME_SIZE_ERROR),
    "6.3 PRIORITY without a stream": (0, f.frame(f.PRIORITY, 0, 0, b"\0" * 5), f.PROTOCOL_ERROR),
    "6.4 RST_STREAM without a stream": (0, f.reset_frame(0, f.CANCEL), f.PROTOCOL_ERROR),
    "6.4 RST_STREAM of a wrong length": (0, f.frame(f.RST_STREAM, 0, OPEN, b"\0" * 3), f.FRAME_SIZE_ERROR),
    "6.5 SETTINGS on a stream": (0, f.frame(f.SETTINGS, 0, OPEN), f.PROTOCOL_ERROR),
    "6.5 SETTINGS of a wrong length": (0, f.frame(f.SETTINGS, 0, 0, b"\0" * 5), f.FRAME_SIZE_ERROR),
    "6.5 an acknowledgement with a payload": (0, f.frame(f.SETTINGS, f.ACK, 0, b"\0" * 6), f.FRAME_SIZE_ERROR),
    "6.5.2 ENABLE_PUSH of 2": (0, f.settings_frame({f.ENABLE_PUSH: 2}), f.PROTOCOL_ERROR),
    "6.5.2 a window above 2^31-1": (0, f.settings_frame({f.INITIAL_WINDOW_SIZE: 2**31}), f.FLOW_CONTROL_ERROR),
    "6.5.2 a small MAX_FRAME_SIZE": (0, f.settings_frame({f.MAX_FRAME_SIZE: 16_383}), f.PROTOCOL_ERROR),
    "6.5.2 a large MAX_FRAME_SIZE": (0, f.settings_frame({f.MAX_FRAME_SIZE: 2**24}), f.PROTOCOL_ERROR),
    "6.6 PUSH_PROMISE": (0, f.frame(f.PUSH_PROMISE, 4, OPEN, b"\0\0\0\2"), f.PROTOCOL_ERROR),
    "6.7 PING on a stream": (0, f.frame(f.PING, 0, OPEN, b"12345678"), f.PROTOCOL_ERROR),
    "6.7 PING of a wrong length": (0, f.frame(f.PING, 0, 0, b"1234567"), f.FRAME_SIZE_ERROR),
    "6.8 GOAWAY on a stream": (0, f.frame(f.GOAWAY, 0, OPEN, b"\0" * 8), f.PROTOCOL_ERROR),
    "6.8 GOAWAY of a wrong length": (0, f.frame(f.GOAWAY, 0, 0, b"\0" * 7), f.FRAME_SIZE_ERROR),
    "6.8 GOAWAY that takes more than before": (
        0, f.goaway_frame(0, 0) + f.goaway_frame(2, 0), f.PROTOCOL_ERROR,
    ),
    "6.9 WINDOW_UPDATE of a wrong length": (0, f.frame(f.WINDOW_UPDATE, 0, OPEN, b"\0" * 3), f.FRAME_SIZE_ERROR),
    "6.9 the connection's window opened by nothing": (0, f.window_frame(0, 0), f.PROTOCOL_ERROR),
    "6.9.1 the connection's window above 2^31-1": (0, f.window_frame(0, 2**31 - 1), f.FLOW_CONTROL_ERROR),
    "6.9.2 a stream's window above 2^31-1": (
        0, f.window_frame(OPEN, 2**31 - 65_536) + f.settings_frame({f.INITIAL_WINDOW_SIZE: 65_536}),
        f.FLOW_CONTROL_ERROR,
    ),
    "6.10 a frame inside a block": (
        0, f.frame(f.HEADERS, 1, IDLE, b"\x82") + f.frame(f.PING, 0, 0, b"12345678"), f.PROTOCOL_ERROR,
    ),
    "6.10 another stream's CONTINUATION": (
        0, f.frame(f.HEADERS, 1, IDLE, b"\x82") + f.frame(f.CONTINUATION, 4, 11, b"\x84"), f.PROTOCOL_ERROR,
    ),
    "6.10 an unknown frame inside a block": (
        0, f.frame(f.HEADERS, 1, IDLE, b"\x82") + f.frame(0x42, 0, IDLE), f.PROTOCOL_ERROR,
    ),
    "6.10 CONTINUATION behind a whole block": (
        0, f.frame(f.CONTINUATION, 4, ENDED, b"\x82"), f.PROTOCOL_ERROR,
    ),
    "7541 4.2 a table larger than allowed": (0, f.frame(f.HEADERS, 5, IDLE, b"\x3f\xe2\x1f\x82"), f.COMPRESSION_ERROR),
    "7541 4.2 a table's size behind a field": (0, f.frame(f.HEADERS, 5, IDLE, b"\x82\x20"), f.COMPRESSION_ERROR),
    "7541 4.2 three sizes": (0, f.frame(f.HEADERS, 5, IDLE, b"\x20\x20\x20\x82"), f.COMPRESSION_ERROR),
}  # fmt: skip

OF_ONE_STREAM = {
    "5.1 DATA after the end": (ENDED, f.frame(f.DATA, 0, ENDED, b"x"), f.STREAM_CLOSED),
    "5.1 HEADERS after the end": (ENDED, f.frame(f.HEADERS, 5, ENDED, b"\x82"), f.STREAM_CLOSED),
    "6.3 PRIORITY of a wrong length": (OPEN, f.frame(f.PRIORITY, 0, OPEN, b"\0" * 4), f.FRAME_SIZE_ERROR),
    "6.9 a window opened by nothing": (OPEN, f.window_frame(OPEN, 0), f.PROTOCOL_ERROR),
    "6.9.1 a window above 2^31-1": (OPEN, f.window_frame(OPEN, 2**31 - 1), f.FLOW_CONTROL_ERROR),
    "8.1 a second head without an end": (OPEN, f.frame(f.HEADERS, 4, OPEN, b"\x82"), f.PROTOCOL_ERROR),
}


@pytest.mark.parametrize("case", OF_THE_CONNECTION.values(), ids=OF_THE_CONNECTION.keys())
def test_a_violation_that_ends_the_connection(case: tuple[int | None, bytes, int]) -> None:
    when, data, code = case
    one = talk() if when is not None else Talk(greet=False)
    one.send(data if when is not None else f.PREFACE + data)
    said = one.hear()
    assert f"owner: failed {f.error_name(code)}" in said
    assert said[-1] == f"> GOAWAY {one.connection.last_stream} {f.error_name(code)}"
    one.headers(IDLE + 2, GET)
    assert one.hear() == []


@pytest.mark.parametrize("case", OF_ONE_STREAM.values(), ids=OF_ONE_STREAM.keys())
def test_a_violation_that_ends_one_stream(case: tuple[int, bytes, int]) -> None:
    stream, data, code = case
    one = talk()
    one.send(data)
    assert one.hear() == [f"stream {stream}: reset {f.error_name(code)}", f"> RST_STREAM {stream} {f.error_name(code)}"]
    one.headers(IDLE, GET)
    assert one.hear() == [f"stream {IDLE}: head GET / end"]


@pytest.mark.parametrize(
    "data",
    [
        f.frame(f.PRIORITY, 0, IDLE, b"\0" * 5),
        f.window_frame(CLOSED, 1),
        f.reset_frame(CLOSED, f.CANCEL),
        f.frame(f.PRIORITY, 0, CLOSED, b"\0" * 5),
        f.settings_frame({0xABCD: 7}),
    ],
    ids=[
        "5.1 PRIORITY on an idle stream", "5.1 WINDOW_UPDATE on a closed stream", "5.1 RST_STREAM on a closed stream",
        "5.1 PRIORITY on a closed stream", "6.5.2 an unknown setting",
    ],
)  # fmt: skip
def test_what_looks_like_a_violation_and_is_none(data: bytes) -> None:
    one = talk()
    one.send(data)
    one.hear()
    one.headers(IDLE, GET)
    assert one.hear() == [f"stream {IDLE}: head GET / end"]


def test_5_1_1_a_stream_below_the_last_one() -> None:
    one = Talk()
    one.headers(7, GET)
    one.hear()
    one.headers(3, GET)
    assert one.hear()[-1] == "> GOAWAY 7 PROTOCOL_ERROR"


def test_3_4_another_preface() -> None:
    one = Talk(greet=False)
    one.send(b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n")
    assert one.hear()[-1] == "> GOAWAY 0 PROTOCOL_ERROR"


@pytest.mark.parametrize(
    ("length", "pieces"),
    [(b"5", [b"123456"]), (b"5", [b"123", b"456"]), (b"5", [b"1234", b""]), (b"5", [b""])],
    ids=["more", "more in pieces", "less", "none"],
)
def test_8_1_1_data_that_does_not_match_the_content_length(length: bytes, pieces: list[bytes]) -> None:
    one = Talk()
    one.headers(1, [*POST, (b"content-length", length)], end=False)
    for number, piece in enumerate(pieces, 1):
        one.data(1, piece, end=number == len(pieces))
    assert one.hear()[-1] == "> RST_STREAM 1 PROTOCOL_ERROR"


def test_6_9_1_data_beyond_the_window_of_its_stream() -> None:
    one = Talk()
    one.headers(1, POST, end=False)
    one.connection.pause(one.stream(1))
    for _ in range(4):
        one.data(1, b"x" * 16_000)
    one.hear()
    one.data(1, b"x" * 1_536)
    assert one.hear()[-1] == "> RST_STREAM 1 FLOW_CONTROL_ERROR"
