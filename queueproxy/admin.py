"""The admin port: readiness, metrics, the present stat, and `/drain`.

A second server of our own engine, with this as its `place`: nothing here can be reached through the traffic's port, and
nothing of the traffic through this one. It has no passwords; `/drain`, the one request that changes something, is not
taken from web pages (a GET is enough for it, because a kubelet's hook can send nothing else).
"""

import socket
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from zerogate.errors import Refusal
from zerogate.exposition import CONTENT_TYPE
from zerogate.http.exchange import Exchange
from zerogate.http.heads import Field, RequestHead
from zerogate.http.sides import DEFAULT_TIMERS, Owner
from zerogate.stats import Stat

_JSON: Final[tuple[Field, ...]] = ((b"Content-Type", b"application/json"), (b"Cache-Control", b"no-store"))
_TEXT: Final[tuple[Field, ...]] = ((b"Content-Type", CONTENT_TYPE.encode()),)
_READS: Final = (b"GET", b"HEAD")
_DRAINS: Final = (b"GET", b"POST")


class Readiness(msgspec.Struct, frozen=True):
    """Whether requests are taken, and if not, why."""

    ready: bool
    detail: str


class Drained(msgspec.Struct, frozen=True):
    """What came of a drain: whether all had left before the deadline, and how many had not."""

    drained: bool
    in_flight: int


class Shown(Protocol):
    """What the admin port shows and does."""

    def readiness(self) -> Readiness: ...
    def metrics(self) -> str: ...
    def stat(self, now_s: float) -> Stat: ...
    def drain(self, now_s: float) -> None:
        """Close the gate; `Admin.on_empty` is called once nothing is inside."""

    def drained(self) -> Drained: ...


class Admin(Owner[Exchange]):
    """See the module's text. Owner of the exchanges of its port."""

    timers = DEFAULT_TIMERS

    def __init__(self, shown: Shown, *, drain_deadline_s: float, clock: Callable[[], float]) -> None:
        self._shown = shown
        self._drain_deadline_s = drain_deadline_s
        self._clock = clock
        self._waiting: dict[Exchange, None] = {}
        """Drains that are not answered yet."""

    def place(self, exchange: Exchange, now_s: float) -> None:
        """Answer a request; what the admin server calls for each."""
        exchange.give_to(self)
        head = exchange.head
        path = head.target.partition(b"?")[0]
        if path not in _PATHS:
            exchange.refuse(_UNKNOWN, now_s)
        elif head.method not in (_DRAINS if path == b"/drain" else _READS):
            exchange.refuse(_METHOD, now_s)
        elif path == b"/drain":
            self._drain(exchange, now_s)
        else:
            self._read(exchange, path, now_s)

    def _read(self, exchange: Exchange, path: bytes, now_s: float) -> None:
        shown = self._shown
        status, kind = 200, _JSON
        if path == b"/metrics":
            kind, body = _TEXT, shown.metrics().encode()
        elif path == b"/stats":
            body = msgspec.json.encode(shown.stat(now_s))
        elif path == b"/healthz":
            body = b'{"status":"ok"}'
        else:
            readiness = shown.readiness()
            status, body = 200 if readiness.ready else 503, msgspec.json.encode(readiness)
        exchange.answer(status, kind, body, now_s)

    def _drain(self, exchange: Exchange, now_s: float) -> None:
        if not _is_ours(exchange.head):
            exchange.refuse(_PAGE, now_s)
            return
        self._waiting[exchange] = None
        exchange.hold(self, deadline_s=now_s + self._drain_deadline_s, now_s=now_s)
        self._shown.drain(now_s)

    def on_empty(self) -> None:
        """The last request has left."""
        now_s = self._clock()
        for exchange in tuple(self._waiting):
            self._tell(exchange, now_s)

    def on_turned_away(self, exchange: Exchange, now_s: float) -> None:
        """Never: nothing is sent anywhere."""

    def on_hold_timeout(self, exchange: Exchange, now_s: float) -> None:
        self._tell(exchange, now_s)

    def _tell(self, exchange: Exchange, now_s: float) -> None:
        drained = self._shown.drained()
        exchange.answer(200 if drained.drained else 503, _JSON, msgspec.json.encode(drained), now_s)

    def on_unsent(self, exchange: Exchange, cause: str, now_s: float) -> None:
        """Never: nothing is sent anywhere."""

    def on_ended(self, exchange: Exchange, now_s: float) -> None:
        self._waiting.pop(exchange, None)


def _is_ours(head: RequestHead) -> bool:
    """Whether no web page has sent it: browsers add these fields, and can be led here by a name, not by an address."""
    if head.field(b"origin") is not None or head.field(b"sec-fetch-site") is not None:
        return False
    host = head.host.decode("ascii", "replace").lower()
    host = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return host == "localhost" or any(_is_address(host, family) for family in (socket.AF_INET, socket.AF_INET6))


def _is_address(host: str, family: int) -> bool:
    try:
        socket.inet_pton(family, host)
    except OSError:
        return False
    return True


_PATHS: Final = frozenset({b"/readyz", b"/healthz", b"/metrics", b"/stats", b"/drain"})
_UNKNOWN: Final = Refusal(
    status=404,
    code="unknown_path",
    detail="Here are /readyz, /healthz, /metrics, /stats and /drain. Requests for the model server go to another port.",
    hopeless=True,
)
_METHOD: Final = Refusal(
    status=405, code="method_not_allowed", detail="Use GET to read, and POST or GET for /drain.", hopeless=True
)
_PAGE: Final = Refusal(
    status=403,
    code="refused",
    detail="/drain is not taken from web pages: ask by address (127.0.0.1), without an Origin.",
    hopeless=True,
)
