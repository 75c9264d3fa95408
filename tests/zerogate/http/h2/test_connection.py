"""Dialogues with one connection of HTTP/2, without sockets."""

import pytest

from tests.zerogate.http.h2.dialogue import GET, OK, POST, Talk
from zerogate.http.h2 import frames as f
from zerogate.http.h2.limits import Limits
from zerogate.http.h2.outgoing import HIGH_BYTES, TURN_BYTES
from zerogate.http.h2.streams import IllegalTransitionError

WINDOW = f.DEFAULT_WINDOW


def sent_bytes(said: list[str], stream: int = 1) -> int:
    return sum(int(line.split()[3]) for line in said if line.startswith(f"> DATA {stream} "))


def test_a_server_announces_its_bounds_before_it_has_heard_anything() -> None:
    talk = Talk(greet=False)
    talk.flush()
    assert talk.hear() == ["> SETTINGS", "> WINDOW_UPDATE 983041"]


def test_a_request_is_answered_in_one_write() -> None:
    talk = Talk()
    talk.headers(1, GET)
    assert talk.hear() == ["stream 1: head GET / end"]
    stream = talk.stream(1)
    talk.connection.send_head(stream, OK)
    talk.connection.send_data(stream, b"hello")
    talk.connection.send_end(stream, [])
    talk.flush()
    assert talk.hear() == ["owner: output", "> HEADERS 1 :status=200", "> DATA 1 5 end"]
    assert not talk.connection.streams


def test_trailers_end_an_answer() -> None:
    talk = Talk()
    talk.headers(1, GET)
    stream = talk.stream(1)
    talk.hear()
    talk.connection.send_head(stream, OK)
    talk.connection.send_data(stream, b"hello")
    talk.connection.send_end(stream, [(b"grpc-status", b"0", False)])
    talk.flush()
    assert talk.hear()[1:] == ["> HEADERS 1 :status=200", "> DATA 1 5", "> HEADERS 1 grpc-status=0 end"]


def test_an_answer_without_a_body_is_one_frame() -> None:
    talk = Talk()
    talk.headers(1, GET)
    talk.hear()
    talk.connection.send_head(talk.stream(1), [(b":status", b"204", False)], end=True)
    talk.flush()
    assert talk.hear() == ["owner: output", "> HEADERS 1 :status=204 end"]


def test_trailers_of_a_request_come_with_its_end() -> None:
    talk = Talk()
    talk.headers(1, POST, end=False)
    talk.data(1, b"x")
    talk.headers(1, [(b"checksum", b"1")])
    assert talk.hear() == ["stream 1: head POST /", "stream 1: data 1", "stream 1: end checksum=1"]


def test_a_head_in_pieces_is_one_head() -> None:
    talk = Talk()
    block = talk.encoder.encode([*GET, (b"x-long", b"v" * 300)])
    talk.send(f.frame(f.HEADERS, f.END_STREAM, 1, block[:5]) + f.frame(f.CONTINUATION, 0, 1, block[5:9]))
    assert talk.hear() == []
    assert talk.connection.block_since_s == talk.now_s
    talk.send(f.frame(f.CONTINUATION, f.END_HEADERS, 1, block[9:]))
    assert talk.hear() == ["stream 1: head GET / end"]
    assert talk.connection.block_since_s is None


def test_our_head_longer_than_a_frame_is_continued() -> None:
    talk = Talk()
    talk.headers(1, GET)
    talk.connection.send_head(talk.stream(1), [*OK, (b"x-long", bytes(range(33, 127)) * 400, False)])
    data = talk.connection.take(talk.now_s)
    word, flags, _ = f.HEADER.unpack_from(data)
    assert word >> 8 == f.FRAME_BYTES
    assert not flags & f.END_HEADERS
    assert f.HEADER.unpack_from(data, f.HEADER_BYTES + f.FRAME_BYTES)[0] & 0xFF == f.CONTINUATION


def test_padding_and_priorities_are_not_seen() -> None:
    talk = Talk()
    block = b"\x02" + b"\x80\x00\x00\x00\x10" + talk.encoder.encode(POST) + b"\0\0"
    talk.send(f.frame(f.HEADERS, f.END_HEADERS | f.PADDED | f.HAS_PRIORITY, 1, block))
    talk.send(f.frame(f.DATA, f.PADDED | f.END_STREAM, 1, b"\x03abc\0\0\0"))
    assert talk.hear() == ["stream 1: head POST /", "stream 1: data 3", "stream 1: end"]


def test_frames_of_unknown_types_are_let_pass() -> None:
    talk = Talk()
    talk.send(f.frame(0x42, 0xFF, 7, b"whatever"))
    talk.headers(1, GET)
    assert talk.hear() == ["stream 1: head GET / end"]


def test_a_ping_comes_back() -> None:
    talk = Talk()
    talk.send(f.frame(f.PING, 0, 0, b"12345678"))
    assert talk.hear() == ["> PING ack"]


# Windows


def test_a_body_that_is_taken_opens_its_window_again() -> None:
    talk = Talk()
    talk.headers(1, POST, end=False)
    for _ in range(3):
        talk.data(1, b"x" * 16_000)
    assert [line for line in talk.hear() if line.startswith(">")] == ["> WINDOW_UPDATE 1 48000"]


def test_a_paused_body_opens_no_window_until_it_is_resumed() -> None:
    talk = Talk()
    talk.headers(1, POST, end=False)
    talk.connection.pause(talk.stream(1))
    talk.hear()
    for _ in range(4):
        talk.data(1, b"x" * 16_000)
    assert talk.hear() == ["stream 1: data 16000"] * 4
    talk.connection.resume(talk.stream(1))
    talk.flush()
    assert talk.hear() == ["owner: output", "> WINDOW_UPDATE 1 64000"]


def test_a_paused_body_does_not_stop_the_others() -> None:
    talk = Talk()
    for number in range(40):
        talk.headers(1 + 2 * number, POST, end=False)
        talk.connection.pause(talk.stream(1 + 2 * number))
        for _ in range(4):
            talk.data(1 + 2 * number, b"x" * 16_000)
    talk.headers(81, POST, end=False)
    talk.hear()
    talk.data(81, b"x" * 16_000)
    assert "stream 81: data 16000" in talk.hear()
    assert talk.connection.failure is None


def test_an_answer_waits_for_the_window_of_its_stream() -> None:
    talk = Talk()
    talk.headers(1, GET)
    stream = talk.stream(1)
    talk.connection.send_head(stream, OK)
    talk.connection.send_data(stream, b"x" * (WINDOW + 10_000))
    talk.connection.send_end(stream, [])
    talk.flush()
    assert sent_bytes(talk.hear()) == WINDOW
    assert stream.queued_bytes == 10_000
    talk.send(f.window_frame(0, 100_000))
    assert talk.hear() == []
    talk.send(f.window_frame(1, 4_000))
    assert talk.hear() == ["> DATA 1 4000"]
    talk.send(f.window_frame(1, 10_000))
    assert talk.hear() == ["> DATA 1 6000 end"]


def test_answers_share_the_window_of_the_connection_frame_by_frame() -> None:
    talk = Talk()
    talk.send(f.settings_frame({f.INITIAL_WINDOW_SIZE: 1_000_000}))
    for stream in (1, 3):
        talk.headers(stream, GET)
        talk.connection.send_head(talk.stream(stream), OK)
    talk.connection.send_data(talk.stream(1), b"x" * WINDOW)
    talk.connection.send_data(talk.stream(1), b"x" * 40_000)
    talk.connection.send_data(talk.stream(3), b"y" * 40_000)
    talk.flush()
    talk.hear()
    talk.send(f.window_frame(0, 4 * f.FRAME_BYTES))
    assert [line.split()[2] for line in talk.hear()] == ["1", "3", "1", "3"]


def test_a_smaller_initial_window_makes_windows_negative_and_stops_them() -> None:
    talk = Talk()
    talk.headers(1, GET)
    stream = talk.stream(1)
    talk.connection.send_head(stream, OK)
    talk.connection.send_data(stream, b"x" * 60_000)
    talk.flush()
    talk.send(f.settings_frame({f.INITIAL_WINDOW_SIZE: 10}))
    talk.hear()
    talk.connection.send_data(stream, b"x" * 10)
    talk.flush()
    assert stream.send_window == 10 - 60_000
    assert talk.hear() == []
    talk.send(f.window_frame(1, 59_995))
    assert talk.hear() == ["> DATA 1 5"]


def test_a_window_that_becomes_smaller_while_the_transport_is_blocked_is_kept() -> None:
    talk = Talk()
    talk.headers(1, GET)
    stream = talk.stream(1)
    talk.connection.send_head(stream, OK)
    talk.flush()
    talk.connection.block()
    talk.connection.send_data(stream, b"x" * 10)
    talk.connection.receive(f.settings_frame({f.INITIAL_WINDOW_SIZE: 0}), talk.now_s)
    talk.connection.unblock()
    talk.hear()
    talk.flush()
    assert not any(line.startswith("> DATA") for line in talk.hear())
    talk.send(f.window_frame(1, 4))
    assert talk.hear() == ["> DATA 1 4"]


def test_who_gives_a_stream_too_much_is_told_to_stop_and_to_go_on() -> None:
    talk = Talk()
    talk.headers(1, GET)
    stream = talk.stream(1)
    talk.connection.send_head(stream, OK)
    talk.connection.send_data(stream, b"x" * WINDOW)
    talk.flush()
    talk.hear()
    talk.connection.send_data(stream, b"x" * HIGH_BYTES)
    assert talk.hear() == []
    talk.connection.send_data(stream, b"x")
    assert talk.hear() == ["stream 1: not writable"]
    talk.send(f.window_frame(0, 2**20) + f.window_frame(1, 2**20))
    assert "stream 1: writable" in talk.hear()


def test_nothing_of_a_body_is_written_while_the_transport_takes_nothing() -> None:
    talk = Talk()
    talk.headers(1, GET)
    stream = talk.stream(1)
    talk.connection.send_head(stream, OK)
    talk.flush()
    talk.hear()
    talk.connection.block()
    talk.connection.send_data(stream, b"x" * 10)
    assert talk.hear() == []
    assert stream.queued_bytes == 10
    talk.connection.unblock()
    talk.flush()
    assert "> DATA 1 10" in talk.hear()


def test_one_write_carries_no_more_than_a_turn() -> None:
    talk = Talk()
    talk.send(f.settings_frame({f.INITIAL_WINDOW_SIZE: 10_000_000}) + f.window_frame(0, 10_000_000))
    talk.headers(1, GET)
    talk.connection.send_head(talk.stream(1), OK)
    talk.connection.send_data(talk.stream(1), b"x" * 1_000_000)
    total = 0
    while talk.connection.has_output:
        piece = talk.connection.take(talk.now_s)
        assert len(piece) <= TURN_BYTES + f.FRAME_BYTES + 100
        total += len(piece)
    assert total > 1_000_000


# Ends


def test_a_reset_of_the_peer_ends_its_stream_and_no_other() -> None:
    talk = Talk()
    talk.headers(1, POST, end=False)
    talk.headers(3, GET)
    talk.hear()
    talk.send(f.reset_frame(1, f.CANCEL))
    assert talk.hear() == ["stream 1: reset by the peer CANCEL"]
    assert list(talk.connection.streams) == [3]


def test_what_was_on_its_way_to_a_stream_that_we_reset_is_let_pass_and_counted() -> None:
    talk = Talk()
    talk.headers(1, POST, end=False)
    talk.connection.reset(talk.stream(1), f.CANCEL)
    talk.flush()
    talk.hear()
    talk.data(1, b"x" * 16_000)
    talk.headers(1, [(b"x-trailer", b"1")])
    talk.send(f.window_frame(1, 10) + f.reset_frame(1, f.CANCEL))
    assert talk.hear() == []
    assert talk.connection.failure is None
    talk.headers(3, [*GET, (b"x-trailer", b"1")])
    assert talk.hear() == ["stream 3: head GET / end"]


def test_an_early_answer_lets_the_short_rest_of_a_request_come() -> None:
    talk = Talk()
    talk.headers(1, [*POST, (b"content-length", b"100")], end=False)
    stream = talk.stream(1)
    talk.connection.send_head(stream, OK, end=True)
    talk.connection.stop(stream)
    talk.flush()
    assert not any("RST_STREAM" in line for line in talk.hear())
    talk.data(1, b"x" * 100, end=True)
    assert not talk.connection.streams


def test_an_early_answer_opens_windows_for_the_rest_of_a_request_that_waits_for_them() -> None:
    talk = Talk()
    talk.headers(1, [*POST, (b"content-length", b"1000000")], end=False)
    stream = talk.stream(1)
    talk.connection.pause(stream)
    while stream.receive_window:
        talk.data(1, b"x" * min(stream.receive_window, 16384), end=False)
    talk.hear()
    talk.connection.send_head(stream, OK, end=True)
    talk.connection.stop(stream)
    talk.flush()
    said = talk.hear()
    assert any(line.startswith("> WINDOW_UPDATE 1 ") for line in said), said
    assert not any("RST_STREAM" in line for line in said)


@pytest.mark.parametrize("length", [(b"content-length", b"100000000"), (b"x-none", b"1")], ids=["long", "unknown"])
def test_an_early_answer_ends_a_request_whose_rest_may_be_long(length: tuple[bytes, bytes]) -> None:
    talk = Talk()
    talk.headers(1, [*POST, length], end=False)
    stream = talk.stream(1)
    talk.connection.send_head(stream, OK)
    talk.connection.send_data(stream, b"no")
    talk.connection.send_end(stream, [])
    talk.connection.stop(stream)
    talk.flush()
    assert talk.hear()[-2:] == ["> DATA 1 2 end", "> RST_STREAM 1 NO_ERROR"]


def test_an_early_answer_that_waits_for_a_window_is_not_lost_by_its_end() -> None:
    talk = Talk()
    talk.send(f.settings_frame({f.INITIAL_WINDOW_SIZE: 0}))
    talk.headers(1, POST, end=False)
    stream = talk.stream(1)
    talk.connection.send_head(stream, OK)
    talk.connection.send_data(stream, b"no")
    talk.connection.send_end(stream, [])
    talk.connection.stop(stream)
    talk.flush()
    assert talk.hear()[-1] == "> HEADERS 1 :status=200"
    talk.send(f.window_frame(1, 2))
    assert talk.hear() == ["> DATA 1 2 end", "> RST_STREAM 1 NO_ERROR"]


def test_leaving_takes_what_was_on_its_way_and_refuses_what_comes_after() -> None:
    talk = Talk()
    talk.headers(1, GET)
    talk.hear()
    talk.connection.begin_goaway()
    talk.flush()
    assert talk.hear() == ["owner: output", f"> GOAWAY {f.MAX_WINDOW} NO_ERROR"]
    talk.headers(3, GET)
    assert talk.hear() == ["stream 3: head GET / end"]
    talk.connection.finish_goaway()
    talk.flush()
    assert talk.hear() == ["owner: output", "> GOAWAY 3 NO_ERROR"]
    talk.headers(5, GET)
    assert talk.hear() == ["> RST_STREAM 5 REFUSED_STREAM"]
    assert sorted(talk.connection.streams) == [1, 3]


def test_one_stream_more_than_announced_is_refused_as_not_processed() -> None:
    talk = Talk(limits=Limits(streams=2))
    for stream in (1, 3, 5):
        talk.headers(stream, GET)
    assert talk.hear()[-1] == "> RST_STREAM 5 REFUSED_STREAM"
    assert talk.connection.failure is None


def test_the_loss_of_the_transport_ends_all_streams() -> None:
    talk = Talk()
    talk.headers(1, GET)
    talk.headers(3, POST, end=False)
    talk.hear()
    talk.connection.close("gone")
    assert talk.hear() == ["stream 1: reset by the peer CONNECT_ERROR", "stream 3: reset by the peer CONNECT_ERROR"]
    assert not talk.connection.streams


def test_a_connection_is_idle_once_its_last_stream_was_reset_by_the_peer() -> None:
    talk = Talk()
    talk.headers(1, POST, end=False)
    assert talk.connection.idle_since_s is None
    talk.now_s += 5
    talk.send(f.reset_frame(1, f.CANCEL))
    assert talk.connection.idle_since_s == talk.now_s


def test_an_illegal_frame_of_our_own_raises_and_sends_nothing() -> None:
    talk = Talk()
    talk.headers(1, GET)
    stream = talk.stream(1)
    talk.connection.send_head(stream, OK)
    talk.connection.send_end(stream, [])
    talk.flush()
    talk.hear()
    with pytest.raises(IllegalTransitionError):
        talk.connection.send_data(stream, b"more")
    with pytest.raises(IllegalTransitionError):
        talk.connection.send_head(stream, OK)
    assert talk.hear() == []


# The other role


def client() -> Talk:
    return Talk(is_server=False)


def ask(talk: Talk, *, end: bool = True) -> int:
    stream = talk.connection.open([(name, value, False) for name, value in GET], end=end)
    talk.flush()
    talk.hear()
    return stream.id


def test_a_client_opens_odd_streams_one_after_the_other() -> None:
    talk = client()
    assert [ask(talk), ask(talk)] == [1, 3]


def test_a_client_hears_interim_and_final_answers() -> None:
    talk = client()
    ask(talk)
    talk.headers(1, [(b":status", b"103")], end=False)
    talk.headers(1, [(b":status", b"200")], end=False)
    talk.data(1, b"hello")
    talk.headers(1, [(b"grpc-status", b"0")])
    assert talk.hear() == [
        "stream 1: informational 103", "stream 1: head 200", "stream 1: data 5", "stream 1: end grpc-status=0",
    ]  # fmt: skip
    assert not talk.connection.streams


def test_a_body_without_an_answers_head_ends_its_stream_and_no_other() -> None:
    talk = client()
    ask(talk), ask(talk)
    talk.data(1, b"hello")
    assert talk.hear() == ["stream 1: reset PROTOCOL_ERROR", "> RST_STREAM 1 PROTOCOL_ERROR"]
    talk.headers(3, [(b":status", b"200")])
    assert talk.hear() == ["stream 3: head 200 end"]


def test_a_client_opens_no_more_streams_than_the_server_takes() -> None:
    talk = client()
    talk.send(f.settings_frame({f.MAX_CONCURRENT_STREAMS: 1}))
    answers = [talk.connection.can_open]
    ask(talk)
    answers.append(talk.connection.can_open)
    talk.headers(1, [(b":status", b"200")])
    answers.append(talk.connection.can_open)
    assert answers == [True, False, True]


def test_streams_that_a_leaving_server_does_not_look_at_were_not_processed() -> None:
    talk = client()
    for _ in range(2):
        ask(talk)
    talk.send(f.goaway_frame(1, f.NO_ERROR))
    assert talk.hear() == ["stream 3: reset by the peer REFUSED_STREAM", "owner: goaway 1 NO_ERROR"]
    assert not talk.connection.can_open
    talk.headers(1, [(b":status", b"200")])
    assert talk.hear() == ["stream 1: head 200 end"]


@pytest.mark.parametrize(
    "frames",
    [
        f.frame(f.PUSH_PROMISE, f.END_HEADERS, 1, b"\0\0\0\2"),
        f.frame(f.HEADERS, f.END_HEADERS, 2, b"\x88"),
        f.frame(f.HEADERS, f.END_HEADERS, 3, b"\x88"),
        f.settings_frame({f.ENABLE_PUSH: 1}),
        f.settings_frame({f.ENABLE_CONNECT_PROTOCOL: 1}) + f.settings_frame({f.ENABLE_CONNECT_PROTOCOL: 0}),
    ],
    ids=[
        "a push",
        "an answer on a stream of the server",
        "an answer to nothing",
        "push switched on",
        "WebSockets taken back",
    ],
)
def test_a_client_ends_a_connection_whose_server_does_what_it_must_not(frames: bytes) -> None:
    talk = client()
    ask(talk)
    talk.send(frames)
    assert talk.hear()[-1] == "> GOAWAY 0 PROTOCOL_ERROR"
