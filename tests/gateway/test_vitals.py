"""Who hangs: seconds are scripted, and each round says who was heard."""

from gateway.vitals import LONGEST_STEP_S, START_S, Vitals

HUNG_S = 10.0


class World:
    """Processes by number that take requests, and a parent that looks once a second."""

    def __init__(self, *numbers: int, ready: bool = True) -> None:
        self.vitals = Vitals(HUNG_S)
        self.now_s = 100.0
        for number in numbers:
            self.vitals.begin(number)
            if ready:
                self.vitals.on_ready(number)
        self.vitals.look(self.now_s)

    def rounds(self, count: int, *heard: int, step_s: float = 1.0) -> list[int]:
        """So many looks, before each of which these were heard; who was found to hang, in order."""
        hung = []
        for _ in range(count):
            for number in heard:
                self.vitals.on_heard(number)
            self.now_s += step_s
            hung += self.vitals.look(self.now_s)
        return hung


def test_who_says_nothing_while_others_do_hangs_and_is_named_once() -> None:
    world = World(1, 2)
    assert world.rounds(10, 2) == []
    assert world.rounds(1, 2) == [1]
    assert world.rounds(20, 2) == []


def test_a_report_that_comes_in_time_ends_the_silence() -> None:
    world = World(1, 2)
    world.rounds(9, 2)
    assert world.vitals.is_silent(1)
    world.rounds(1, 1, 2)
    assert not world.vitals.is_silent(1)
    assert world.rounds(9, 2) == []


def test_when_nobody_is_heard_the_machine_is_at_fault_for_much_longer() -> None:
    world = World(1, 2, 3)
    assert world.rounds(50) == []
    assert world.rounds(5, 1, 2, 3) == []


def test_when_nobody_is_heard_for_very_long_they_are_all_ended() -> None:
    assert sorted(World(1, 2).rounds(62)) == [1, 2]


def test_a_machine_that_was_suspended_makes_nobody_silent() -> None:
    world = World(1, 2)
    assert world.rounds(1, step_s=3600.0) == []
    assert world.rounds(1, step_s=3600.0) == []
    assert world.rounds(20, 1, 2) == []


def test_one_who_hangs_is_found_although_the_parent_looks_rarely() -> None:
    world = World(1, 2)
    assert world.rounds(int(HUNG_S / LONGEST_STEP_S) + 1, 2, step_s=30.0) == [1]


def test_a_second_that_hangs_after_the_first_is_found_too() -> None:
    world = World(1, 2, 3)
    assert world.rounds(11, 2, 3) == [1]
    world.vitals.end(1)
    assert world.rounds(11, 3) == [2]


def test_one_that_reads_a_large_file_at_its_start_has_longer() -> None:
    world = World(1, ready=False)
    world.vitals.begin(2)
    world.vitals.on_ready(2)
    assert world.rounds(int(START_S), 2) == []
    assert not world.vitals.is_silent(1)
    assert world.rounds(2, 2) == [1]


def test_nothing_is_to_be_looked_at_while_there_is_nobody() -> None:
    assert Vitals(HUNG_S).next_s is None
    world = World(1)
    assert world.vitals.next_s == world.now_s + 1.0
    assert world.vitals.look(world.now_s + 0.5) == []
    world.vitals.end(1)
    assert not world.vitals.is_silent(1)
