"""So many at once, and so many a second in the long run."""

from hypothesis import given
from hypothesis import strategies as st

from zerogate.bucket import Bucket


def test_it_is_full_at_first_and_never_fuller() -> None:
    bucket = Bucket(10.0, 3.0)
    bucket.refill(100.0)
    bucket.refill(200.0)
    assert (bucket.left, bucket.has_one, bucket.wait_s()) == (3.0, True, 0.0)


def test_what_is_missing_comes_at_its_rate() -> None:
    bucket = Bucket(10.0, 3.0)
    bucket.refill(0.0)
    bucket.take(5.0)
    assert (bucket.left, bucket.has_one) == (-2.0, False)
    assert (bucket.wait_s(), bucket.wait_s(0.0)) == (0.3, 0.2)
    bucket.refill(0.25)
    assert not bucket.has_one
    bucket.refill(0.3)
    assert bucket.has_one


def test_no_more_is_owed_than_may_be() -> None:
    bucket = Bucket(1.0, 3.0, most_owed=2.0)
    bucket.take(100.0)
    assert bucket.left == -2.0


@given(st.lists(st.floats(0.0, 10.0), max_size=50), st.floats(0.1, 1e4), st.floats(1.0, 1e4))
def test_who_takes_only_what_is_there_has_at_most_the_burst_and_the_rate_over_the_time(
    pauses: list[float], per_s: float, burst: float
) -> None:
    bucket, now_s, taken = Bucket(per_s, burst), 0.0, 0
    bucket.refill(now_s)
    for pause_s in pauses:
        now_s += pause_s
        bucket.refill(now_s)
        while bucket.has_one and taken < 1000:
            bucket.take()
            taken += 1
    assert taken <= burst + per_s * now_s + 1


def test_who_waits_as_long_as_it_says_finds_one_there() -> None:
    bucket, now_s = Bucket(3.0, 1.0), 0.0
    bucket.refill(now_s)
    for _ in range(100):
        bucket.take()
        now_s += bucket.wait_s()
        bucket.refill(now_s)
        assert bucket.has_one
