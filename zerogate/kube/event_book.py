"""Which Kubernetes Events are written: what happens again is counted, not repeated, and nothing is unbounded. Pure.

The same happening (object, reason, note) is one Event whose series counts; the count is written at most once a minute.
More than ten different notes for one object and reason within ten minutes become one Event that stands for the rest.
All together keep to a rate, and what is remembered has a bound: over it the one that was told longest ago is
forgotten.

Driven by `happenings.py`.
"""

from collections import OrderedDict, deque
from collections.abc import Mapping

import msgspec

from zerogate.bucket import Bucket
from zerogate.kube.objects import EVENTS, Json
from zerogate.kube.times import micro_time

LONGEST_NOTE = 1000
"""Bytes; the API refuses more than 1024."""


class About(msgspec.Struct, frozen=True):
    """The object that something happened to. A namespace has none itself: its Events are in `default`."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str


class Happening(msgspec.Struct, frozen=True, kw_only=True):
    """`reason` and `action` are CamelCase words for programs, `note` a sentence for people."""

    about: About
    reason: str
    note: str
    action: str = "Scale"
    is_warning: bool = False


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    remembered: int = 1000
    repeat_every_s: float = 60.0
    similar: int = 10
    """With the next: those of client-go's own aggregation."""
    similar_within_s: float = 600.0
    forget_after_s: float = 3000.0
    """The server deletes an Event an hour after its last write: a longer series would count for nobody."""
    rate: float = 2.0
    """A second, of all Events of a process: what a cluster with thousands of workloads sees in quiet times."""
    burst: float = 50.0
    tries: int = 3


class CreateEvent(msgspec.Struct, frozen=True):
    name: str
    namespace: str
    body: Mapping[str, Json]


class RepeatEvent(msgspec.Struct, frozen=True):
    name: str
    namespace: str
    patch: Mapping[str, Json]


class _Entry:
    __slots__ = ("count", "first_wall_s", "happening", "last_wall_s", "name", "next_s", "sent", "told_s", "tries")

    def __init__(self, happening: Happening, name: str, now: float, wall_s: float) -> None:
        self.happening = happening
        self.name = name
        self.count = 0
        self.sent = 0
        self.first_wall_s = wall_s
        self.last_wall_s = wall_s
        self.told_s = now
        self.next_s = now
        self.tries = 0


_EntryKey = tuple[About, str, str]


class EventBook:
    """`controller` and `instance` say who reports, in every Event."""

    def __init__(self, controller: str, instance: str, bounds: Bounds | None = None) -> None:
        self._controller = controller
        self._instance = instance
        self._bounds = bounds or Bounds()
        self._entries: OrderedDict[_EntryKey, _Entry] = OrderedDict()
        self._by_name: dict[str, _EntryKey] = {}
        self._notes: OrderedDict[tuple[About, str], deque[float]] = OrderedDict()
        """When new notes for an object and reason were told, as far back as it matters."""
        self._rate = Bucket(self._bounds.rate, self._bounds.burst)
        self._names = 0
        self.dropped = 0
        """Happenings that no Event ever told of."""

    def tell(self, happening: Happening, now: float, wall_s: float) -> None:
        """It happened."""
        if len(note := happening.note.encode()) > LONGEST_NOTE:
            happening = msgspec.structs.replace(
                happening, note=note[:LONGEST_NOTE].decode(errors="ignore").rstrip() + "…"
            )
        key = (happening.about, happening.reason, happening.note)
        entry = self._entries.get(key)
        if entry is None and self._has_many_notes(happening, now):
            key = (happening.about, happening.reason, "")
            entry = self._entries.get(key)
        if entry is not None and now - entry.told_s > self._bounds.forget_after_s:
            self._forget(key)
            entry = None
        if entry is None:
            entry = self._entries[key] = _Entry(happening, self._new_name(happening, wall_s), now, wall_s)
            self._by_name[entry.name] = key
        entry.count += 1
        entry.told_s = now
        entry.last_wall_s = wall_s
        self._entries.move_to_end(key)
        while len(self._entries) > self._bounds.remembered:
            self._forget(next(iter(self._entries)))

    def due(self, now: float, wall_s: float) -> tuple[list[CreateEvent | RepeatEvent], float | None]:
        """What to write now, and in how many seconds to ask again (None: when the next thing happens).

        Each is to be answered by `on_written`, `on_lost` or `on_failed`.
        """
        bounds = self._bounds
        self._rate.refill(now)
        writes: list[CreateEvent | RepeatEvent] = []
        waits: list[float] = []
        for entry in self._entries.values():
            if entry.count == entry.sent:
                continue
            if entry.next_s > now:
                waits.append(entry.next_s - now)
            elif not self._rate.has_one:
                waits.append(self._rate.wait_s())
            else:
                self._rate.take()
                entry.next_s = now + bounds.repeat_every_s
                writes.append(self._repeat(entry) if entry.sent else self._create(entry))
        return writes, min(waits, default=None)

    def on_written(self, name: str, count: int) -> None:
        """The server has it, with this count."""
        if (entry := self._entry(name)) is not None:
            entry.sent = max(entry.sent, count)
            entry.tries = 0

    def on_lost(self, name: str, now: float, wall_s: float) -> None:
        """There is no such Event any more, or the name is taken: begin a new one."""
        if (entry := self._entry(name)) is not None:
            key = self._by_name.pop(name)
            entry.name = self._new_name(entry.happening, wall_s)
            entry.sent = 0
            entry.next_s = now
            self._by_name[entry.name] = key

    def on_failed(self, name: str, now: float) -> None:
        """It could not be written: again in a minute, and after some tries not at all."""
        if (entry := self._entry(name)) is not None:
            entry.tries += 1
            entry.next_s = now + self._bounds.repeat_every_s
            if entry.tries >= self._bounds.tries:
                self._forget(self._by_name[name])

    def _entry(self, name: str) -> _Entry | None:
        key = self._by_name.get(name)
        return self._entries.get(key) if key else None

    def _forget(self, key: _EntryKey) -> None:
        entry = self._entries.pop(key)
        self._by_name.pop(entry.name, None)
        if not entry.sent:
            self.dropped += entry.count

    def _has_many_notes(self, happening: Happening, now: float) -> bool:
        kind = (happening.about, happening.reason)
        times = self._notes.setdefault(kind, deque(maxlen=self._bounds.similar))
        self._notes.move_to_end(kind)
        while len(self._notes) > self._bounds.remembered:
            self._notes.popitem(last=False)
        if len(times) == self._bounds.similar and now - times[0] < self._bounds.similar_within_s:
            return True
        times.append(now)
        return False

    def _new_name(self, happening: Happening, wall_s: float) -> str:
        self._names += 1
        return f"{happening.about.name[:200]}.{int(wall_s * 1e6):x}{self._names % 4096:03x}"

    def _create(self, entry: _Entry) -> CreateEvent:
        happening, about = entry.happening, entry.happening.about
        namespace = about.namespace or "default"
        body: dict[str, Json] = {
            "apiVersion": EVENTS.api_version,
            "kind": "Event",
            "metadata": {"name": entry.name, "namespace": namespace},
            "eventTime": micro_time(entry.first_wall_s),
            "reportingController": self._controller,
            "reportingInstance": self._instance,
            "type": "Warning" if happening.is_warning else "Normal",
            "reason": happening.reason,
            "action": happening.action,
            "note": happening.note,
            "regarding": {
                "apiVersion": about.api_version,
                "kind": about.kind,
                "namespace": about.namespace,
                "name": about.name,
                "uid": about.uid,
            },
        }
        if entry.count > 1:
            body["series"] = self._series(entry)
        return CreateEvent(entry.name, namespace, body)

    def _repeat(self, entry: _Entry) -> RepeatEvent:
        return RepeatEvent(entry.name, entry.happening.about.namespace or "default", {"series": self._series(entry)})

    def _series(self, entry: _Entry) -> dict[str, Json]:
        return {"count": entry.count, "lastObservedTime": micro_time(entry.last_wall_s)}
