"""Who reports, and who fell silent. Pure: `now_s` is an argument.

A source is *live* while it is heard, *silent* after `SILENT_S` without a word (unknown, not zero), *absent* after
`ABSENT_S`, or as soon as it is silent and the platform no longer lists it; one that says goodbye is absent at once. A
source sees all services (a gateway) or one (a sidecar): the silence of a sidecar says nothing about its neighbours.
Used by `autoscaler.sources` alone.
"""

from collections.abc import Iterable, Mapping
from typing import Final

SILENT_S: Final = 15.0
"""Three heartbeats of 5 s: one lost and one late do not withhold zero."""
ABSENT_S: Final = 60.0
"""As long as a gateway may take to be replaced; then what it last said is nobody's any more."""
SETTLE_S: Final = 10.0
"""Two heartbeats: after a gap every source has spoken before anything is lowered."""
FORGOTTEN_S: Final = 600.0
"""A source that comes back within it is differenced against what it said before."""

_MOST_SOURCES: Final = 16384
"""Sidecars of a fleet of a thousand GPUs, many times over. Further ones are not heard."""


class Source:
    """One process that reports. `born_s`: its counters started at zero no earlier; None where that is not known."""

    __slots__ = ("born_s", "has_left", "heard_s", "incarnation", "is_listed", "retired", "scope")

    def __init__(self, scope: str | None, heard_s: float) -> None:
        self.scope = scope
        self.heard_s = heard_s
        self.incarnation: str | None = None
        self.retired: str | None = None
        self.born_s: float | None = None
        self.is_listed = False
        self.has_left = False


class Presence:
    """The sources and when each was heard. `seen_s`: since when anything is known; None before the first word."""

    def __init__(self) -> None:
        self.seen_s: float | None = None
        self._sources: dict[str, Source] = {}
        self._by_scope: dict[str | None, dict[str, Source]] = {}
        self._is_listing = False
        self._crowded_out: dict[str, str | None] = {}
        """Listed, and there was no room."""
        self._heard_s: float | None = None
        self._settled_s = float("-inf")
        self._forgot_s = float("-inf")

    def hear(self, name: str, incarnation: str, now_s: float, *, scope: str | None = None) -> Source | None:
        """A word of a source. None where it does not count: an incarnation that was replaced, or too many sources."""
        source = self._sources.get(name) or self._add(name, scope, now_s)
        if source is None or incarnation == source.retired:
            return None
        if scope is not None and source.scope is None:
            self._move(name, source, scope)
        if source.incarnation != incarnation:
            source.born_s = None if source.incarnation is None else source.heard_s
            source.retired, source.incarnation = source.incarnation, incarnation
        source.heard_s = now_s
        source.has_left = False
        self._note_gap(now_s)
        return source

    def expect(self, added: Mapping[str, str | None], gone: Iterable[str], now_s: float) -> None:
        """What has changed in the platform's list: name → the one service it sees, None for all; and who is no longer
        on it. Draining ones belong on it."""
        self._is_listing = True
        for name in gone:
            self._crowded_out.pop(name, None)
            source = self._sources.get(name)
            if source is not None:
                source.is_listed = False
        for name, scope in (*self._crowded_out.items(), *added.items()):
            known = self._sources.get(name) or self._add(name, scope, now_s)
            if known is None:
                self._crowded_out[name] = scope
            else:
                known.is_listed = True

    def leave(self, name: str, incarnation: str) -> None:
        """The source has said all and goes: nothing of it is unknown. Should it speak again, it is back."""
        source = self._sources.get(name)
        if source is not None and source.incarnation == incarnation:
            source.has_left = True

    def get(self, name: str) -> Source | None:
        """The source of that name, if it was heard or listed and is not forgotten."""
        return self._sources.get(name)

    def health(self, service: str, now_s: float) -> tuple[bool, bool]:
        """(somebody who sees the service is there, everybody who is there was heard lately)."""
        is_present, is_fresh = False, True
        for scope in (None, service):
            for source in self._by_scope.get(scope, {}).values():
                if not self.is_absent(source, now_s):
                    is_present = True
                    is_fresh = is_fresh and source.incarnation is not None and now_s - source.heard_s <= SILENT_S
        return is_present, is_present and is_fresh

    def is_absent(self, source: Source, now_s: float) -> bool:
        """Whether what the source last said no longer counts."""
        silence_s = now_s - source.heard_s
        return (
            source.has_left
            or silence_s > ABSENT_S
            or (silence_s > SILENT_S and self._is_listing and not source.is_listed)
        )

    def is_settled(self, now_s: float) -> bool:
        """False for `SETTLE_S` after a time in which nobody was heard."""
        return now_s >= self._settled_s

    def _note_gap(self, now_s: float) -> None:
        silence_s = None if self._heard_s is None else now_s - self._heard_s
        self._heard_s = now_s
        if silence_s is not None and silence_s > SILENT_S:
            self._settled_s = now_s + SETTLE_S
        if silence_s is None or silence_s > FORGOTTEN_S:
            self.seen_s = now_s

    def _add(self, name: str, scope: str | None, now_s: float) -> Source | None:
        if len(self._sources) >= _MOST_SOURCES and now_s - self._forgot_s > SILENT_S:
            self._forgot_s = now_s
            self._forget(now_s)
        if len(self._sources) >= _MOST_SOURCES:
            return None
        source = self._sources[name] = Source(scope, now_s)
        source.is_listed = name in self._crowded_out
        self._crowded_out.pop(name, None)
        self._by_scope.setdefault(scope, {})[name] = source
        return source

    def _move(self, name: str, source: Source, scope: str) -> None:
        del self._by_scope[source.scope][name]
        source.scope = scope
        self._by_scope.setdefault(scope, {})[name] = source

    def _forget(self, now_s: float) -> None:
        for name, source in list(self._sources.items()):
            if now_s - source.heard_s > FORGOTTEN_S and not source.is_listed:
                del self._sources[name]
                peers = self._by_scope[source.scope]
                del peers[name]
                if not peers:
                    del self._by_scope[source.scope]
