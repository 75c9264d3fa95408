"""Floods of HTTP/2: each is bounded in what it makes us do and keep, and ends with GOAWAY ENHANCE_YOUR_CALM."""

from collections.abc import Callable

import pytest

from tests.zerogate.http.h2.dialogue import GET, OK, POST, Talk
from zerogate.http.h2 import frames as f
from zerogate.http.h2.limits import NOISE, RESETS, Budget, Limits

CALM = "ENHANCE_YOUR_CALM"
Attack = Callable[[Talk, int], None]


def rapid_reset(talk: Talk, number: int) -> None:
    """CVE-2023-44487."""
    stream = 1 + 2 * number
    talk.headers(stream, GET)
    talk.send(f.reset_frame(stream, f.CANCEL))


def made_you_reset_by_a_window(talk: Talk, number: int) -> None:
    """CVE-2025-8671: the server is made to reset the stream itself."""
    stream = 1 + 2 * number
    talk.headers(stream, GET)
    talk.send(f.window_frame(stream, 0))


def made_you_reset_by_data(talk: Talk, number: int) -> None:
    stream = 1 + 2 * number
    talk.headers(stream, GET)
    talk.data(stream, b"x")


def made_you_reset_by_overflow(talk: Talk, number: int) -> None:
    stream = 1 + 2 * number
    talk.headers(stream, GET)
    talk.send(f.window_frame(stream, 2**31 - 1))


def made_you_reset_by_priority(talk: Talk, number: int) -> None:
    stream = 1 + 2 * number
    talk.headers(stream, GET)
    talk.send(f.frame(f.PRIORITY, 0, stream, b"\0"))


def refused_streams(talk: Talk, number: int) -> None:
    talk.headers(1 + 2 * number, GET)


def empty_heads(talk: Talk, number: int) -> None:
    """CVE-2019-9518 as trailers without an end."""
    stream = 1 + 2 * number
    talk.headers(stream, POST, end=False)
    talk.send(f.frame(f.HEADERS, f.END_HEADERS, stream))


def settings(talk: Talk, number: int) -> None:
    """CVE-2019-9515."""
    talk.send(f.settings_frame({f.INITIAL_WINDOW_SIZE: 65_535}))


def pings(talk: Talk, number: int) -> None:
    """CVE-2019-9512."""
    talk.send(f.frame(f.PING, 0, 0, b"12345678"))


def priorities(talk: Talk, number: int) -> None:
    """CVE-2019-9513."""
    talk.send(f.frame(f.PRIORITY, 0, 1, b"\0\0\0\0\1"))


def unknown_frames(talk: Talk, number: int) -> None:
    talk.send(f.frame(0x77, 0, 0, b""))


def empty_data(talk: Talk, number: int) -> None:
    """CVE-2019-9518."""
    if not number:
        talk.headers(1, POST, end=False)
    talk.data(1, b"")


def padding_alone(talk: Talk, number: int) -> None:
    if not number:
        talk.headers(1, POST, end=False)
    talk.send(f.frame(f.DATA, f.PADDED, 1, b"\x09" + b"\0" * 9))


def windows(talk: Talk, number: int) -> None:
    talk.send(f.window_frame(0, 1))


def dribble(talk: Talk, number: int) -> None:
    """CVE-2019-9511: a large answer asked for in windows of one byte."""
    if not number:
        talk.send(f.settings_frame({f.INITIAL_WINDOW_SIZE: 0}))
        talk.headers(1, GET)
        talk.connection.send_head(talk.stream(1), OK)
        talk.connection.send_data(talk.stream(1), b"x" * 60_000)
    talk.send(f.window_frame(1, 1))


def resets_of_closed_streams(talk: Talk, number: int) -> None:
    if not number:
        talk.headers(1, GET)
    talk.send(f.reset_frame(1, f.CANCEL))


def data_behind_a_reset(talk: Talk, number: int) -> None:
    """What is on its way when its stream is reset is let pass, and does not go on for ever."""
    if not number:
        talk.headers(1, POST, end=False)
        talk.send(f.window_frame(1, 0))
    talk.data(1, b"")


def heads_behind_a_reset(talk: Talk, number: int) -> None:
    if not number:
        talk.headers(1, POST, end=False)
        talk.send(f.window_frame(1, 0))
    talk.headers(1, [(b"x", b"y")])


def goaways(talk: Talk, number: int) -> None:
    talk.send(f.goaway_frame(0, f.NO_ERROR))


FLOODS: list[Attack] = [
    rapid_reset, made_you_reset_by_a_window, made_you_reset_by_data,
    made_you_reset_by_overflow, made_you_reset_by_priority, empty_heads, settings, pings, priorities, unknown_frames,
    empty_data, padding_alone, windows, dribble, resets_of_closed_streams, data_behind_a_reset, heads_behind_a_reset,
    goaways,
]  # fmt: skip


@pytest.mark.parametrize("attack", FLOODS, ids=lambda attack: attack.__name__)
def test_a_flood_ends_its_connection(attack: Attack) -> None:
    talk = Talk()
    most = RESETS[0] + NOISE[0]
    for number in range(most + 1):
        attack(talk, number)
        if talk.connection.failure is not None:
            break
    assert 900 <= number <= most
    assert talk.hear()[-1] == f"> GOAWAY {talk.connection.last_stream} {CALM}"
    assert len(talk.connection.streams) <= 1


def test_more_streams_than_allowed_again_and_again_end_the_connection() -> None:
    talk = Talk(limits=Limits(streams=1))
    for number in range(RESETS[0] + 2):
        refused_streams(talk, number)
    assert talk.hear()[-1] == f"> GOAWAY {talk.connection.last_stream} {CALM}"


def test_cve_2024_27316_a_block_without_end_is_cut_by_its_frames() -> None:
    talk = Talk()
    talk.send(f.frame(f.HEADERS, f.END_STREAM, 1, b"\x82"))
    for _ in range(Limits().continuations + 1):
        talk.send(f.frame(f.CONTINUATION, 0, 1, b""))
    assert talk.hear()[-1] == f"> GOAWAY 0 {CALM}"


def test_cve_2024_27316_a_block_without_end_is_cut_by_its_bytes() -> None:
    talk = Talk()
    talk.send(f.frame(f.HEADERS, f.END_STREAM, 1, b"\x82"))
    for number in range(5):
        assert talk.connection.failure is None, number
        talk.send(f.frame(f.CONTINUATION, 0, 1, b"x" * f.FRAME_BYTES))
        if number == 3:
            break
    assert talk.hear()[-1] == f"> GOAWAY 0 {CALM}"


def test_cve_2016_6581_a_bomb_of_references_is_not_unpacked() -> None:
    talk = Talk()
    bomb = b"\x40\x01a\x7f\xa1\x1e" + b"x" * 4000 + b"\xbe" * 10_000
    talk.send(f.frame(f.HEADERS, f.END_STREAM | f.END_HEADERS, 1, bomb))
    assert talk.hear()[-1] == f"> GOAWAY 0 {CALM}"


def test_a_bomb_of_empty_fields_is_not_taken() -> None:
    talk = Talk()
    talk.send(f.frame(f.HEADERS, f.END_STREAM | f.END_HEADERS, 1, b"\x40\0\0" + b"\xbe" * 10_000))
    assert talk.hear()[-1] == f"> GOAWAY 0 {CALM}"


def test_replies_that_nobody_reads_are_not_kept_without_end() -> None:
    talk = Talk()
    talk.connection.block()
    ping = f.frame(f.PING, 0, 0, b"12345678")
    for number in range(20_000):
        if talk.connection.failure is not None:
            break
        # each request gives back what ten pings took
        if number % 10 == 0:
            block = talk.encoder.encode(GET)
            stream = 1 + number // 5
            talk.connection.receive(f.header_frames(stream, block, end=True), talk.now_s)
            if stream in talk.connection.streams:
                talk.connection.send_head(talk.stream(stream), OK, end=True)
        talk.connection.receive(ping, talk.now_s)
    assert talk.connection.failure is not None
    assert talk.connection.failure.code == f.ENHANCE_YOUR_CALM
    assert len(talk.connection.take(talk.now_s)) < 2 * Limits().output_bytes


def test_an_answer_that_nobody_opens_a_window_for_is_given_up() -> None:
    talk = Talk()
    talk.send(f.settings_frame({f.INITIAL_WINDOW_SIZE: 0}))
    talk.headers(1, GET)
    stream = talk.stream(1)
    talk.connection.send_head(stream, OK)
    talk.connection.send_data(stream, b"x" * 1000)
    talk.connection.send_end(stream, [])
    talk.flush()
    talk.connection.reap(1000.0)
    talk.connection.reap(1059.0)
    talk.flush()
    assert talk.connection.streams
    talk.connection.reap(1060.0)
    talk.flush()
    assert talk.hear()[-1] == "> RST_STREAM 1 CANCEL"
    assert not talk.connection.queued_bytes


def test_an_answer_that_still_comes_may_wait_for_its_reader() -> None:
    talk = Talk()
    talk.send(f.settings_frame({f.INITIAL_WINDOW_SIZE: 0}))
    talk.headers(1, GET)
    talk.connection.send_head(talk.stream(1), OK)
    talk.connection.send_data(talk.stream(1), b"x" * 1000)
    for at_s in (1000.0, 1100.0, 2000.0):
        talk.connection.reap(at_s)
    assert talk.connection.streams


def test_a_client_of_grpc_that_pings_with_every_answer_is_not_flooding() -> None:
    talk = Talk()
    for number in range(5000):
        stream = 1 + 2 * number
        talk.headers(stream, POST, end=False)
        talk.data(stream, b"12345", end=True)
        talk.connection.send_head(talk.stream(stream), OK)
        talk.connection.send_data(talk.stream(stream), b"12345")
        talk.connection.send_end(talk.stream(stream), [(b"grpc-status", b"0", False)])
        talk.flush()
        talk.send(f.window_frame(0, 5) + f.frame(f.PING, 0, 0, b"12345678"))
    assert talk.connection.failure is None


def test_a_long_download_with_a_window_update_per_frame_is_not_a_flood() -> None:
    talk = Talk()
    talk.headers(1, GET)
    stream = talk.stream(1)
    talk.connection.send_head(stream, OK)
    for _ in range(5000):
        talk.connection.send_data(stream, b"x" * 16_000)
        talk.flush()
        talk.send(f.window_frame(1, 16_000) + f.window_frame(0, 16_000))
    assert talk.connection.failure is None
    assert stream.queued_bytes == 0


def test_a_budget_comes_back_with_time_and_with_work() -> None:
    budget = Budget(2, 1.0, 10.0)
    assert [budget.spend(10.0) for _ in range(3)] == [True, True, False]
    assert [budget.spend(11.0) for _ in range(2)] == [True, False]
    budget.give(5)
    assert [budget.spend(11.0) for _ in range(3)] == [True, True, False]


def test_priorities_that_go_in_a_circle_are_not_looked_at() -> None:
    talk = Talk()
    for stream, above in ((1, 3), (3, 5), (5, 1), (7, 7)):
        talk.send(f.frame(f.PRIORITY, 0, stream, f.WORD.pack(above) + b"\xff"))
    block = talk.encoder.encode(GET)
    talk.send(f.frame(f.HEADERS, f.HAS_PRIORITY | 5, 1, f.WORD.pack(1 | 2**31) + b"\0" + block))
    assert talk.connection.failure is None
    assert "stream 1: head GET / end" in talk.hear()
