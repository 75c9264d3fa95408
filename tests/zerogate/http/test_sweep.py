"""One timer for everything that has a deadline."""

import asyncio
import itertools
from collections.abc import Callable

import pytest

from zerogate.clock import now
from zerogate.http import sweep as sweep_module
from zerogate.http.sweep import NEVER, TICK_S, Sweep


class Item:
    def __init__(self, *more_s: float) -> None:
        self.visit_s = NEVER
        self.tick = 0
        self.more_s = list(more_s)
        self.seen_s: list[float] = []
        self.was_seen = asyncio.Event()

    def due(self, now_s: float) -> float | None:
        self.seen_s.append(now_s)
        self.was_seen.set()
        return now_s + self.more_s.pop(0) if self.more_s else None


async def until_seen(item: Item, times: int) -> None:
    async with asyncio.timeout(30):
        while len(item.seen_s) < times:
            item.was_seen.clear()
            await item.was_seen.wait()


async def test_an_item_is_visited_at_its_deadline_or_a_tick_later_never_before() -> None:
    item = Item()
    deadline_s = now() + 0.12
    Sweep().watch(item, deadline_s)
    await until_seen(item, 1)
    assert item.seen_s[0] >= deadline_s


class Turns:
    """A loop whose time a test turns by hand."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.planned: list[Callable[[], None]] = []
        self.delay_s = 0.0
        """Of the last that was planned."""

    def call_later(self, delay_s: float, act: Callable[[], None]) -> "Turns":
        self.planned.append(act)
        self.delay_s = delay_s
        return self

    def cancel(self) -> None:
        self.planned.pop()

    def turn(self, after_s: float) -> None:
        self.now_s += after_s
        self.planned.pop()()


def test_after_a_gap_what_came_in_it_is_read_before_a_deadline_fires(monkeypatch: pytest.MonkeyPatch) -> None:
    turns, item = Turns(), Item()
    monkeypatch.setattr(sweep_module, "now", lambda: turns.now_s)
    Sweep(turns).watch(item, turns.now_s + 2)  # type: ignore[arg-type]
    turns.turn(TICK_S)
    turns.turn(10 + TICK_S)
    assert not item.seen_s
    turns.turn(10 + TICK_S)  # once: a loop that is always late would otherwise have no timers
    assert item.seen_s == [turns.now_s]


def test_what_was_forgotten_long_ago_does_not_keep_it_turning(monkeypatch: pytest.MonkeyPatch) -> None:
    turns, forgotten, last, next_ = Turns(), Item(), Item(), Item(600)
    monkeypatch.setattr(sweep_module, "now", lambda: turns.now_s)
    sweep = Sweep(turns)  # type: ignore[arg-type]
    sweep.watch(forgotten, turns.now_s + 3)
    sweep.watch(last, turns.now_s + 1)
    sweep.forget(forgotten)
    turns.turn(1 + 2 * TICK_S)
    assert last.seen_s
    assert sweep.is_idle
    turns.now_s += 60
    sweep.watch(next_, turns.now_s + 1)
    turns.turn(1 + 2 * TICK_S)
    assert next_.seen_s
    assert turns.delay_s == pytest.approx(600, abs=3 * TICK_S)


async def test_an_item_says_when_it_wants_to_be_seen_again() -> None:
    item = Item(0.06, 0.06)
    Sweep().watch(item, now())
    await until_seen(item, 3)
    assert item.visit_s == NEVER


async def test_a_deadline_that_moves_forward_moves_the_visit_and_a_later_one_does_not() -> None:
    item = Item()
    sweep = Sweep()
    sweep.watch(item, now() + 600)
    sweep.watch(item, now() + 0.05)
    sooner_s = item.visit_s
    sweep.watch(item, now() + 900)
    assert item.visit_s == sooner_s
    await until_seen(item, 1)


async def test_a_forgotten_item_is_not_visited_and_the_timer_ends_with_the_last_one() -> None:
    first, second = Item(), Item()
    sweep = Sweep()
    sweep.watch(first, now())
    sweep.watch(second, now())
    sweep.forget(first)
    await until_seen(second, 1)
    assert first.seen_s == []
    await asyncio.sleep(2 * TICK_S)
    assert sweep.is_idle


async def test_an_item_may_forget_another_one_of_the_same_tick() -> None:
    sweep = Sweep()
    victim = Item()

    class Killer(Item):
        def due(self, now_s: float) -> float | None:
            sweep.forget(victim)
            return super().due(now_s)

    killer = Killer()
    sweep.watch(killer, now())
    sweep.watch(victim, now())
    await until_seen(killer, 1)
    await asyncio.sleep(2 * TICK_S)
    assert victim.seen_s == []


async def test_a_timer_that_fails_does_not_stop_the_others(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Item):
        def due(self, now_s: float) -> float | None:
            raise ValueError("broken")

    sweep = Sweep()
    item = Item()
    sweep.watch(Broken(), now())
    sweep.watch(item, now())
    await until_seen(item, 1)
    assert len(item.seen_s) == 1
    (record,) = caplog.records
    assert "a timer of" in record.message
    assert record.exc_info is not None


@pytest.mark.may_block  # making so many items takes a while
async def test_ten_thousand_items_of_one_tick_do_not_hold_the_loop() -> None:
    sweep = Sweep()
    items = [Item() for _ in range(10_000)]
    for item in items:
        sweep.watch(item, now())
    turns = 0
    async with asyncio.timeout(10):
        while not items[-1].seen_s:
            turns += 1
            await asyncio.sleep(0)
    assert turns >= 10


class Sleeper(Turns):
    """The same, with timers that are cancelled and have their time."""

    def __init__(self) -> None:
        super().__init__()
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def call_later(self, delay_s: float, act: Callable[[], None]) -> "Sleeper":
        self.timers.append((self.now_s + delay_s, act))
        return self

    def cancel(self) -> None:
        self.timers.pop()

    def run(self, until_s: float) -> int:
        """How often something ran until then."""
        turns = 0
        while self.timers and self.timers[0][0] <= until_s:
            assert len(self.timers) == 1, "one timer for all"
            at_s, act = self.timers.pop()
            self.now_s = max(self.now_s, at_s)
            act()
            turns += 1
            assert turns < 10_000, "it spins"
        return turns


@pytest.fixture
def sleeper(monkeypatch: pytest.MonkeyPatch) -> Sleeper:
    made = Sleeper()
    monkeypatch.setattr(sweep_module, "now", lambda: made.now_s)
    return made


def test_nothing_runs_before_the_first_of_few_is_due(sleeper: Sleeper) -> None:
    sweep = Sweep(sleeper)  # type: ignore[arg-type]
    items = [Item(60.0), Item(), Item()]
    for item, deadline_s in zip(items, (75.0, 90.0, 120.0), strict=True):
        sweep.watch(item, sleeper.now_s + deadline_s)
    assert sleeper.run(sleeper.now_s + 300) == 4
    assert [len(item.seen_s) for item in items] == [2, 1, 1]
    assert sweep.is_idle


def test_an_earlier_deadline_wakes_it_earlier(sleeper: Sleeper) -> None:
    sweep, late, early = Sweep(sleeper), Item(), Item()  # type: ignore[arg-type]
    began_s = sleeper.now_s
    sweep.watch(late, began_s + 60)
    sweep.watch(early, began_s + 1)
    assert sleeper.run(began_s + 1 + 2 * TICK_S) == 1
    assert (len(early.seen_s), len(late.seen_s)) == (1, 0)
    assert sleeper.run(began_s + 61) == 1


def test_a_deadline_that_is_over_is_seen_at_once_though_it_slept(sleeper: Sleeper) -> None:
    sweep, late, over = Sweep(sleeper), Item(), Item()  # type: ignore[arg-type]
    sweep.watch(late, sleeper.now_s + 60)
    sleeper.now_s += 30
    sweep.watch(over, sleeper.now_s - 10)
    assert sleeper.run(sleeper.now_s) == 1
    assert len(over.seen_s) == 1


def test_what_a_visit_watches_needs_no_second_timer(sleeper: Sleeper) -> None:
    sweep, other = Sweep(sleeper), Item()  # type: ignore[arg-type]

    class Starter(Item):
        def due(self, now_s: float) -> float | None:
            sweep.watch(other, now_s + 1)
            return super().due(now_s)

    starter = Starter(50.0)
    sweep.watch(starter, sleeper.now_s + 60)
    assert sleeper.run(sleeper.now_s + 200) == 4
    assert (len(starter.seen_s), len(other.seen_s)) == (2, 2)


def test_many_are_visited_tick_by_tick(sleeper: Sleeper) -> None:
    sweep = Sweep(sleeper)  # type: ignore[arg-type]
    items = [Item() for _ in range(200)]
    for number, item in enumerate(items):
        sweep.watch(item, sleeper.now_s + 1 + number * 2 * TICK_S)
    sleeper.run(sleeper.now_s + 60)
    assert [len(item.seen_s) for item in items] == [1] * 200
    for item, next_one in itertools.pairwise(items):
        assert item.seen_s[0] < next_one.seen_s[0]
