"""Whatever a client sends and whatever we do in between: one outcome for each stream, and nothing is left behind."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import examples
from tests.zerogate.http.h2.dialogue import OK, Talk
from zerogate.http.h2 import frames as f
from zerogate.http.h2.streams import CLOSED, HALF_LOCAL, IDLE, Stream

streams = st.sampled_from([1, 3, 5, 7])
THEIRS = st.one_of(
    st.tuples(st.just("head"), streams, st.booleans()),
    st.tuples(st.just("data"), streams, st.sampled_from([0, 1, 9000, 16_384]), st.booleans()),
    st.tuples(st.just("window"), st.sampled_from([0, 1, 3, 5]), st.sampled_from([1, 70_000])),
    st.tuples(st.just("initial"), st.sampled_from([0, 100, 65_535, 200_000])),
    st.tuples(st.just("reset"), streams),
    st.tuples(st.just("noise"), st.sampled_from([f.frame(0x33, 0, 0), f.frame(f.PING, 0, 0, b"12345678")])),
    st.tuples(
        st.just("goaway"),
    ),
)
OURS = st.one_of(
    st.tuples(st.sampled_from(["answer", "end", "trail", "cut", "stop", "pause", "resume"]), streams),
    st.tuples(st.just("give"), streams, st.sampled_from([1, 5000, 100_000])),
    st.tuples(
        st.sampled_from(["block", "unblock", "take", "leave", "left", "reap"]),
    ),
)


BEGIN: list[tuple[Any, ...]] = [("head", 1, False), ("head", 3, True), ("answer", 1), ("answer", 3)]
"""Two streams in the middle of their answers: random moves alone seldom come so far."""


class Play:
    """One run: what each stream was told last, and what we have sent on it."""

    def __init__(self) -> None:
        self.talk = Talk()
        self.headed: set[int] = set()
        self.given: dict[int, int] = {}
        self.is_blocked = False

    def step(self, move: tuple[Any, ...]) -> None:
        getattr(self, f"do_{move[0]}")(*move[1:])
        if not self.is_blocked:
            self.talk.flush()

    def send(self, data: bytes) -> None:
        """In two pieces; what has come of a frame is known as long as it is not whole."""
        connection, half = self.talk.connection, len(data) // 2
        for piece, begun_bytes in ((data[:half], half), (data[half:], 0)):
            connection.receive(piece, self.talk.now_s)
            assert connection.begun_bytes == (begun_bytes if connection.failure is None else 0)

    def do_head(self, stream: int, end: bool) -> None:
        self.send(f.header_frames(stream, b"\x83\x86\x84\x01\x04chat", end=end))

    def do_data(self, stream: int, size: int, end: bool) -> None:
        self.send(f.frame(f.DATA, f.END_STREAM if end else 0, stream, b"x" * size))

    def do_window(self, stream: int, size: int) -> None:
        self.send(f.window_frame(stream, size))

    def do_initial(self, size: int) -> None:
        self.send(f.settings_frame({f.INITIAL_WINDOW_SIZE: size}))

    def do_reset(self, stream: int) -> None:
        self.send(f.reset_frame(stream, f.CANCEL))

    def do_noise(self, data: bytes) -> None:
        self.send(data)

    def do_goaway(self) -> None:
        self.send(f.goaway_frame(0, f.NO_ERROR))

    def live(self, stream: int) -> Stream | None:
        return self.talk.connection.streams.get(stream)

    def sendable(self, stream: int) -> Stream | None:
        one = self.live(stream)
        if one is None or one.is_ending or one.state in (IDLE, HALF_LOCAL, CLOSED):
            return None
        return one

    def do_answer(self, stream: int) -> None:
        one = self.sendable(stream)
        if one is not None and stream not in self.headed:
            self.headed.add(stream)
            self.talk.connection.send_head(one, OK)

    def do_give(self, stream: int, size: int) -> None:
        one = self.sendable(stream)
        if one is not None and stream in self.headed:
            self.talk.connection.send_data(one, b"y" * size)

    def do_end(self, stream: int, trailers: Any = ()) -> None:
        one = self.sendable(stream)
        if one is not None and stream in self.headed:
            self.talk.connection.send_end(one, list(trailers))

    def do_trail(self, stream: int) -> None:
        self.do_end(stream, [(b"x-sum", b"1", False)])

    def do_cut(self, stream: int) -> None:
        one = self.live(stream)
        if one is not None:
            self.talk.connection.reset(one, f.INTERNAL_ERROR)

    def do_stop(self, stream: int) -> None:
        one = self.live(stream)
        if one is not None and one.has_sent_end:
            self.talk.connection.stop(one)

    def do_pause(self, stream: int) -> None:
        one = self.live(stream)
        if one is not None:
            self.talk.connection.pause(one)

    def do_resume(self, stream: int) -> None:
        one = self.live(stream)
        if one is not None:
            self.talk.connection.resume(one)

    def do_block(self) -> None:
        self.is_blocked = True
        self.talk.connection.block()

    def do_unblock(self) -> None:
        self.is_blocked = False
        self.talk.connection.unblock()

    def do_take(self) -> None:
        """Only what `step` does."""

    def do_leave(self) -> None:
        self.talk.connection.begin_goaway()

    def do_left(self) -> None:
        self.talk.connection.finish_goaway()

    def do_reap(self) -> None:
        self.talk.now_s += 50
        self.talk.connection.reap(self.talk.now_s)


@settings(max_examples=examples(400), deadline=None)
@given(moves=st.lists(st.one_of(THEIRS, OURS), max_size=60))
def test_every_stream_has_one_outcome_and_nothing_is_left(moves: list[tuple[Any, ...]]) -> None:
    play = Play()
    for move in [*BEGIN, *moves]:
        play.step(move)
        for stream in play.talk.connection.streams.values():
            assert stream.state not in (IDLE, CLOSED)
            assert stream.queued_bytes == stream.counted_bytes == sum(map(len, stream.queue or ()))
            assert stream.receive_window + stream.unreleased_bytes <= f.DEFAULT_WINDOW
    streams = list(play.talk.connection.streams.values())
    play.talk.connection.close("gone")
    said = play.talk.hear()
    for number in (1, 3, 5, 7):
        told = [line.split()[2] for line in said if line.startswith(f"stream {number}: ")]
        assert told.count("head") <= 1
        assert told.count("reset") <= 1
        assert told.count("end") <= 1
        if told.count("reset"):
            assert told[-1] == "reset"
    assert not play.talk.connection.streams
    assert play.talk.connection.queued_bytes == 0
    assert not any(stream.counted_bytes for stream in streams)
    assert not play.talk.connection._ready
