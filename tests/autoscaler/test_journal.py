"""What was decided, for whoever asks later."""

from autoscaler.decision import Ask, Decision
from autoscaler.journal import Journal


def decision(desired: int, wall_s: float = 0.0, winner: Ask = Ask.DEMAND) -> Decision:
    return Decision(service="chat", wall_s=wall_s, current=0, desired=desired, winner=winner, why="because")


def test_repeats_collapse_into_what_they_repeat() -> None:
    journal = Journal()
    assert journal.add(decision(1, 1.0))
    assert not journal.add(decision(1, 2.0))
    assert not journal.add(decision(1, 3.0))
    assert journal.add(decision(1, 4.0, Ask.HOLDING))
    assert [(entry.decision.wall_s, entry.repeats, entry.last_wall_s) for entry in journal.entries()] == [
        (1.0, 2, 3.0),
        (4.0, 0, 4.0),
    ]


def test_only_the_last_changes_are_kept() -> None:
    journal = Journal()
    for number in range(200):
        journal.add(decision(number))
    assert [entry.decision.desired for entry in journal.entries()] == list(range(136, 200))
