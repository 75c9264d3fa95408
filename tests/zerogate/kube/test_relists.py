"""Where the time of a new list goes."""

from zerogate.kube.relists import Part, RelistClock


class Scripted:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def spend(relist: RelistClock, clock: Scripted, part: Part, seconds: float) -> None:
    with relist.counted(part):
        clock.now_s += seconds


def test_what_is_neither_a_pause_nor_our_work_was_waited_for() -> None:
    clock = Scripted()
    relist = RelistClock(clock)
    relist.lost()
    for part, seconds in ((Part.PAUSED, 0.5), (Part.COLLECTED, 0.25), (Part.COLLECTED, 0.25), (Part.TOLD, 0.125)):
        spend(relist, clock, part, seconds)
        clock.now_s += 1.0
    found = relist.whole()
    assert found is not None
    assert (found.took_s, found.paused_s, found.collected_s, found.told_s) == (5.125, 0.5, 0.5, 0.125)
    assert found.awaited_s == 4.0


def test_the_first_state_and_the_time_between_are_no_new_list() -> None:
    clock = Scripted()
    relist = RelistClock(clock)
    spend(relist, clock, Part.PAUSED, 3.0)
    assert relist.whole() is None
    relist.lost()
    clock.now_s += 1.0
    found = relist.whole()
    assert found is not None
    assert (found.took_s, found.paused_s) == (1.0, 0.0)
    assert relist.whole() is None


def test_a_version_that_is_gone_again_before_all_is_whole_counts_from_the_first_time() -> None:
    clock = Scripted()
    relist = RelistClock(clock)
    relist.lost()
    clock.now_s += 2.0
    relist.lost()
    clock.now_s += 1.0
    found = relist.whole()
    assert found is not None
    assert found.took_s == 3.0
