"""What to do next to follow a collection: list a page, watch from a version, or wait. Pure.

The first state comes by watch-list where the server serves it (one stream, nothing kept in between on either side) and
else page by page; after it a watch goes on from its version, is resumed from the last one seen when it ends, and only
a version that the server has forgotten (410) or never knew makes it start from the beginning. That new list comes by
pages, which cost the server half as much and are there sooner; by watch-list where a page's token is forgotten, too.
Whatever is repeated is repeated with growing, jittered pauses. What is known stays known meanwhile: unknown is not
gone.

Driven by `watching.py`, which performs the steps and tells what came of them. `chance` is a random number in [0, 1).
"""

from enum import Enum, auto

import msgspec

from zerogate.kube.errors import Gone, Invalid, KubeError, Silent, VersionTooLarge


class ListPage(msgspec.Struct, frozen=True):
    """Fetch a page; `token` is "" for the first one: what was collected of an earlier try is void."""

    token: str


class Watch(msgspec.Struct, frozen=True):
    """Watch from `version`. `initial`: by watch-list, and what was collected of an earlier try is void."""

    version: str
    initial: bool
    length_s: float
    silence_s: float


class Wait(msgspec.Struct, frozen=True):
    seconds: float


Step = ListPage | Watch | Wait

SILENCES = 2
"""Silent watches in a row after which the version is not trusted. A list costs little once in three minutes."""


class Failure(Enum):
    GONE = auto()
    """The version or token is not known to the server."""
    NOT_SERVED = auto()
    """The server does not understand the request: no watch-list."""
    SILENT = auto()
    """A watch was accepted and nothing was read of it for long."""
    TROUBLE = auto()
    """Anything else. A refusal, too: a server that has just started refuses for half a second what it permits then,
    because it has not read its roles yet (seen on 1.34.4)."""


def failure_of(error: KubeError) -> Failure:
    """What an error means for a watch."""
    match error:
        case Gone() | VersionTooLarge():
            return Failure.GONE
        case Invalid():
            return Failure.NOT_SERVED
        case Silent():
            return Failure.SILENT
        case _:
            return Failure.TROUBLE


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """The times of a watch."""

    length_s: float = 240.0
    """The server ends a watch after so long and up to half as long again: a watch that only seems alive ends too,
    and streams spread over a server that came back. client-go takes 300 to 600."""
    silence_s: float = 90.0
    """A server sends a bookmark every minute; it is allowed to leave it out, and then a resumed watch costs little."""
    initial_silence_s: float = 10.0
    """Until the first state is complete: a server that ignores the wish for a watch-list would never end it."""
    relist_spread_s: float = 0.5
    """After 410, which meets all clients of a server at once: about half of what a list of 10,000 pods takes there."""
    resume_spread_s: float = 0.25
    first_pause_s: float = 0.5
    longest_pause_s: float = 30.0
    """Who has to act, such as to give a right, should see soon that it helped."""


class Following:
    """The state of following one collection."""

    def __init__(self, pace: Pace | None = None, *, by_watch: bool = True) -> None:
        self._pace = pace or Pace()
        self._version = ""
        self._token = ""
        self._is_synced = False
        """The collected state is complete, and `_version` is where it stands."""
        self._watch_list = by_watch
        """The server is not known to lack it."""
        self._begin_by_watch = by_watch
        """How the next beginning is made: after a try that failed, the other way."""
        self._failures = 0
        self._gones = 0
        """How often in a row the server did not know our version."""
        self._silences = 0
        """Watches in a row that said nothing at all."""
        self._pause: tuple[float, float] = (0.0, 0.0)
        """Seconds to wait for sure, and the most that chance adds."""

    @property
    def is_collecting(self) -> bool:
        """The first state, or a new one after 410, is not complete."""
        return not self._is_synced

    def next_step(self, chance: float) -> Step:
        """What to do now."""
        sure, more = self._pause
        if sure or more:
            self._pause = (0.0, 0.0)
            return Wait(sure + more * chance)
        pace = self._pace
        if self._is_synced:
            return Watch(self._version, False, pace.length_s * (1 + chance / 2), pace.silence_s)
        if self._begin_by_watch and not self._token:
            return Watch("", True, pace.length_s * (1 + chance / 2), pace.initial_silence_s)
        return ListPage(self._token)

    def on_page(self, version: str, token: str) -> bool:
        """A page was read; `token` "" is the last. Returns whether the state is complete now."""
        self._token = token
        if not token:
            self._synced(version)
        return self._is_synced

    def on_event(self, version: str) -> None:
        """A change or a bookmark was read. While the first state is collected its versions are not in order."""
        if self._is_synced:
            self._failures = self._silences = self._gones = 0
            if version:
                self._version = version

    def on_initial_end(self, version: str) -> float:
        """The bookmark that ends the first state of a watch-list was read. Returns the silence allowed from now on."""
        self._synced(version)
        self._failures = 0
        return self._pace.silence_s

    def on_closed(self, lasted_s: float) -> None:
        """The server ended a watch without an error, after `lasted_s`."""
        if not self._is_synced or lasted_s < 1.0:
            self.on_failed(Failure.TROUBLE)
            return
        self._failures = 0
        self._pause = (0.0, self._pace.resume_spread_s)

    def on_failed(self, failure: Failure, retry_after_s: float | None = None) -> None:
        """A step did not succeed."""
        pace = self._pace
        if failure is Failure.NOT_SERVED and not self._is_synced and self._begin_by_watch:
            self._watch_list = self._begin_by_watch = False
            return
        if failure is Failure.SILENT and self._is_synced:
            self._silences += 1
            # A server whose data was set back waits in silence until it comes to a version that it never had.
            failure = Failure.GONE if self._silences >= SILENCES else Failure.TROUBLE
        is_gone = failure is Failure.GONE or (failure is Failure.NOT_SERVED and self._is_synced)
        if is_gone:
            # the server is there: how often it could not be reached before is no reason to wait
            self._gones = self._failures = self._gones + 1
        else:
            self._failures += 1
        grown_s = min(pace.first_pause_s * 2.0 ** min(self._failures - 1, 16), pace.longest_pause_s)
        if is_gone:
            self._start_over(by_watch=bool(self._token))
            # The first time only the spread counts; a server that says 410 again and again is asked ever less.
            self._pause = (0.0, pace.relist_spread_s) if self._failures == 1 else (grown_s / 2, grown_s / 2)
            return
        if not self._is_synced and not self._token:
            self._begin_by_watch = not self._begin_by_watch and self._watch_list
        sure_s = retry_after_s or grown_s / 2
        # A server that names a time is there: who comes much later than that is blind for longer than it has to be.
        self._pause = (sure_s, min(sure_s, grown_s / 2))

    def _synced(self, version: str) -> None:
        self._version = version
        self._token = ""
        self._is_synced = True

    def _start_over(self, *, by_watch: bool) -> None:
        self._begin_by_watch = by_watch and self._watch_list
        self._silences = 0
        self._version = ""
        self._token = ""
        self._is_synced = False
