"""Which Events are written, and how few."""

from hypothesis import given
from hypothesis import strategies as st

from zerogate.kube.event_book import About, Bounds, CreateEvent, EventBook, Happening, RepeatEvent

WALL = 1_700_000_000.0
ABOUT = About("apps/v1", "Deployment", "models", "llama", "uid-1")


def book(**bounds: float) -> EventBook:
    return EventBook("zerogate.dev/autoscaler", "autoscaler-0", Bounds(**bounds))  # type: ignore[arg-type]


def happening(note: str = "from 0 to 1", about: About = ABOUT, reason: str = "ScaledUp") -> Happening:
    return Happening(about=about, reason=reason, note=note)


def write(events: EventBook, now: float) -> list[CreateEvent | RepeatEvent]:
    """What is due, as if the server took it."""
    due, _ = events.due(now, WALL + now)
    for one in due:
        series = (one.body if isinstance(one, CreateEvent) else one.patch).get("series")
        events.on_written(one.name, series["count"] if series else 1)
    return due


def test_what_happens_once_is_an_event_without_a_series() -> None:
    events = book()
    events.tell(happening(), 0.0, WALL)
    (made,) = write(events, 0.0)
    assert isinstance(made, CreateEvent)
    assert (made.namespace, made.body["reason"], made.body["type"]) == ("models", "ScaledUp", "Normal")
    assert made.body["regarding"] == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "namespace": "models",
        "name": "llama",
        "uid": "uid-1",
    }
    assert "series" not in made.body
    assert events.due(1.0, WALL) == ([], None)


def test_what_happens_again_is_counted_and_written_once_a_minute() -> None:
    events = book()
    events.tell(happening(), 0.0, WALL)
    (made,) = write(events, 0.0)
    for second in range(1, 60):
        events.tell(happening(), float(second), WALL + second)
        assert write(events, float(second)) == []
    (repeated,) = write(events, 60.0)
    assert isinstance(repeated, RepeatEvent)
    assert repeated.name == made.name
    assert repeated.patch == {"series": {"count": 60, "lastObservedTime": "2023-11-14T22:14:19.000000Z"}}


def test_many_different_notes_become_one_event_that_stands_for_the_rest() -> None:
    events = book()
    for number in range(100):
        events.tell(happening(f"from {number} to {number + 1}"), 0.0, WALL)
    made = write(events, 0.0)
    assert len(made) == 11
    last = made[-1]
    assert isinstance(last, CreateEvent)
    assert last.body["series"]["count"] == 90
    events.tell(happening("another object"), 0.0, WALL)
    other = About("apps/v1", "Deployment", "models", "other", "uid-2")
    events.tell(happening("another object", other), 0.0, WALL)
    assert len(write(events, 0.0)) == 1


def test_all_events_together_keep_to_a_rate() -> None:
    events = book(rate=1.0, burst=3.0)
    for number in range(10):
        events.tell(happening(about=About("v1", "Pod", "models", f"pod-{number}", f"uid-{number}")), 0.0, WALL)
    assert len(write(events, 0.0)) == 3
    assert events.due(0.0, WALL) == ([], 1.0)
    assert len(write(events, 2.0)) == 2


def test_what_is_remembered_has_a_bound_and_what_was_never_said_is_counted() -> None:
    events = book(remembered=5, burst=2.0, rate=0.001)
    for number in range(20):
        events.tell(happening(about=About("v1", "Pod", "models", f"pod-{number}", f"uid-{number}")), 0.0, WALL)
    assert events.dropped == 15
    assert len(write(events, 0.0)) == 2


def test_an_event_that_the_server_has_forgotten_begins_anew() -> None:
    events = book()
    events.tell(happening(), 0.0, WALL)
    (made,) = write(events, 0.0)
    events.tell(happening(), 61.0, WALL + 61)
    (lost,), _ = events.due(61.0, WALL + 61)
    events.on_lost(lost.name, 61.0, WALL + 61)
    (again,) = write(events, 61.0)
    assert isinstance(again, CreateEvent)
    assert again.name != made.name
    assert again.body["series"]["count"] == 2


def test_after_an_hour_it_is_a_new_event() -> None:
    events = book()
    events.tell(happening(), 0.0, WALL)
    (made,) = write(events, 0.0)
    events.tell(happening(), 3600.0, WALL + 3600)
    (again,) = write(events, 3600.0)
    assert isinstance(again, CreateEvent)
    assert again.name != made.name


def test_what_cannot_be_written_is_tried_three_times() -> None:
    events = book()
    events.tell(happening(), 0.0, WALL)
    tries = 0
    for minute in range(10):
        for one in events.due(minute * 60.0, WALL)[0]:
            tries += 1
            events.on_failed(one.name, minute * 60.0)
    assert (tries, events.dropped) == (3, 1)


def test_a_long_note_is_cut_to_what_the_api_takes() -> None:
    events = book()
    events.tell(happening("ü" * 2000), 0.0, WALL)
    (made,) = write(events, 0.0)
    assert isinstance(made, CreateEvent)
    assert len(made.body["note"].encode()) <= 1024


def test_an_object_without_a_namespace_has_its_events_in_default() -> None:
    events = book()
    events.tell(happening(about=About("v1", "Node", "", "gpu-1", "uid-1")), 0.0, WALL)
    (made,) = write(events, 0.0)
    assert made.namespace == "default"


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 30), st.floats(0, 100)), max_size=200))
def test_whatever_happens_no_more_is_written_than_the_rate_allows(told: list[tuple[int, int, float]]) -> None:
    events = book(rate=0.5, burst=5.0, remembered=20)
    now, written = 0.0, 0
    for who, note, pause_s in told:
        now += pause_s
        events.tell(happening(str(note), About("v1", "Pod", "models", f"pod-{who}", f"uid-{who}")), now, WALL + now)
        written += len(write(events, now))
        assert written <= 5 + now * 0.5
