"""What a client of HTTP/2 bears from a server: resets and late frames of streams that it opened are no attack.

What it does not bear: interim answers without end."""

from tests.zerogate.http.h2.dialogue import Talk
from zerogate.http.h2 import frames as f
from zerogate.http.h2.limits import NOISE, WORTH

GET = [(b":method", b"GET", False), (b":scheme", b"http", False), (b":path", b"/", False), (b":authority", b"c", False)]
MANY = 3000


def test_a_server_may_reset_every_stream_that_it_is_asked_for() -> None:
    talk = Talk(is_server=False)
    for _ in range(MANY):
        stream = talk.connection.open(GET, end=True)
        talk.send(f.reset_frame(stream.id, f.REFUSED_STREAM))
    assert talk.connection.failure is None


def test_a_server_may_open_windows_and_ping_with_every_answer() -> None:
    talk = Talk(is_server=False)
    for _ in range(MANY):
        stream = talk.connection.open(GET, end=True)
        talk.send(f.window_frame(0, 1) + f.window_frame(stream.id, 1) + f.frame(f.PING, 0, 0, b"measured"))
        talk.headers(stream.id, [(b":status", b"200")])
    assert talk.connection.failure is None


def test_answers_that_are_on_their_way_to_many_cancelled_streams_are_let_pass() -> None:
    talk = Talk(is_server=False)
    streams = [talk.connection.open(GET, end=True) for _ in range(MANY)]
    for stream in streams:
        talk.headers(stream.id, [(b":status", b"200")], end=False)
    for stream in streams:
        talk.connection.reset(stream, f.CANCEL)
    for stream in streams:
        talk.data(stream.id, b"x" * 10)
    assert talk.connection.failure is None


def test_interim_answers_without_end_are_a_flood_although_they_say_nothing() -> None:
    talk = Talk(is_server=False)
    stream = talk.connection.open(GET, end=True)
    count = 0
    while talk.connection.failure is None and count < 2 * NOISE[0]:
        talk.headers(stream.id, [(b":status", b"100")], end=False)
        count += 1
    assert NOISE[0] // 2 < count <= NOISE[0] + 2 * WORTH
    assert talk.connection.failure is not None
    assert talk.connection.failure.code == f.ENHANCE_YOUR_CALM
