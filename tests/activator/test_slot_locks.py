"""Slots that processes share: whoever has one holds its lock, and the kernel gives it back."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from activator.slot_locks import SlotLocks, slot_file

TAKER = """
import sys
from activator.slot_locks import SlotLocks
locks = SlotLocks(int(sys.argv[1]), "uid")
for line in sys.stdin:
    if line.startswith("take"):
        print(locks.take(int(line.split()[1])), flush=True)
    else:
        locks.give_back()
        print("given", flush=True)
"""


class Other:
    """Another process with the same file."""

    def __init__(self, file: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", TAKER, str(file)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, pass_fds=[file],
        )  # fmt: skip

    def ask(self, what: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def file() -> Iterator[int]:
    one = slot_file()
    yield one
    os.close(one)


@pytest.fixture
def other(file: int) -> Iterator[Other]:
    it = Other(file)
    yield it
    it.end()


def test_no_slot_is_had_twice_and_what_is_given_back_is_had_by_the_other(file: int, other: Other) -> None:
    locks = SlotLocks(file, "uid")
    mine, others = locks.take(3), [int(other.ask("take 3")) for _ in range(2)]
    assert {mine, *others} == {0, 1, 2}
    assert [locks.take(3), other.ask("take 3")] == [None, "None"]
    assert other.ask("give") == "given"
    assert [locks.take(3), locks.take(3)] == [max(others), None]


def test_what_a_process_had_that_is_killed_is_free(file: int, other: Other) -> None:
    locks = SlotLocks(file, "uid")
    assert other.ask("take 1") == "0"
    assert locks.take(1) is None
    other.end()
    assert locks.take(1) == 0


def test_a_smaller_share_is_reached_by_giving_back_and_other_replicas_are_not_touched(file: int, other: Other) -> None:
    locks, another = SlotLocks(file, "uid"), SlotLocks(file, "another")
    assert {locks.take(2), locks.take(2)} == {0, 1}
    assert another.take(1) == 0
    assert locks.take(1) is None
    locks.give_back()
    assert [other.ask("take 1"), other.ask("take 2")] == ["None", "1"]


def test_slots_of_another_replica_are_others(file: int, other: Other) -> None:
    assert other.ask("take 1") == "0"
    assert SlotLocks(file, "another").take(1) == 0


def test_slots_of_another_process_that_lie_together_are_passed_in_one_step(
    file: int, other: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(199):
        assert other.ask("take 200") != "None"
    locks, tried = SlotLocks(file, "uid"), []
    lock = SlotLocks._lock

    def noted(self: SlotLocks, slot: int) -> bool:
        tried.append(slot)
        return lock(self, slot)

    monkeypatch.setattr(SlotLocks, "_lock", noted)
    assert locks.take(200) is not None
    assert locks.take(200) is None
    assert len(tried) < 10
