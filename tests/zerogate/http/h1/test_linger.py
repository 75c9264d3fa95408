from zerogate.http.h1.linger import LINGER_S, STALLED_S, Linger


class Line:
    """A transport as far as the last seconds of a connection need one."""

    def __init__(self, unsent: int) -> None:
        self.unsent = unsent
        self.is_aborted = False

    def can_write_eof(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def abort(self) -> None:
        self.is_aborted = True


def test_a_client_that_has_all_is_parted_from_after_its_time() -> None:
    line = Line(0)
    linger = Linger(line, 10.0)
    assert linger.due(10.0) == 10.0 + LINGER_S
    assert linger.due(10.0 + LINGER_S) is None
    assert line.is_aborted


def test_a_client_that_is_still_taking_its_answer_is_not_cut() -> None:
    line = Line(1000)
    linger = Linger(line, 0.0)
    assert linger.due(LINGER_S) == LINGER_S + STALLED_S
    line.unsent = 10
    again_s = linger.due(LINGER_S + STALLED_S)
    assert again_s == LINGER_S + 2 * STALLED_S
    assert not line.is_aborted
    line.unsent = 0
    assert linger.due(again_s) is None
    assert line.is_aborted


def test_a_client_that_takes_nothing_is_parted_from() -> None:
    line = Line(1000)
    linger = Linger(line, 0.0)
    again_s = linger.due(LINGER_S)
    assert again_s is not None
    assert linger.due(again_s) is None
    assert line.is_aborted
