"""The admin port of a process that has no other web server: a few paths, answered at once or a little later.

A second server of our own engine, with a `Desk` as its `place`: nothing here can be reached through the traffic's port,
and nothing of the traffic through this one. It has no passwords; what changes something is not taken from web pages,
and with `local_changes` from no other machine or pod either. It may be asked for with GET all the same where a path
allows that: a kubelet's hook can send nothing else.
"""

import socket
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from zerogate.errors import Refusal
from zerogate.exposition import CONTENT_TYPE
from zerogate.http.exchange import Exchange
from zerogate.http.heads import Field, RequestHead
from zerogate.http.sides import DEFAULT_TERMS, Owner

JSON: Final[tuple[Field, ...]] = ((b"Content-Type", b"application/json"), (b"Cache-Control", b"no-store"))
TEXT: Final[tuple[Field, ...]] = ((b"Content-Type", CONTENT_TYPE.encode()),)
LOCAL: Final = (b"127.0.0.1", b"::1", b"::ffff:127.0.0.1", b"unix")
"""Peers that are this machine, or this pod: port-forwards come from there. Not all of 127/8: what a service mesh lets
in from outside comes from another address of it (Istio: 127.0.0.6)."""
READS: Final = (b"GET", b"HEAD")


class Readiness(msgspec.Struct, frozen=True):
    """Whether requests are taken, and if not, why."""

    ready: bool
    detail: str


class Drained(msgspec.Struct, frozen=True):
    """What came of a drain: whether all had left before the deadline, and how many had not."""

    drained: bool
    in_flight: int


class Path(msgspec.Struct, frozen=True):
    """How a path may be asked for. `changes`: not by web pages."""

    methods: tuple[bytes, ...] = READS
    changes: bool = False


DRAIN: Final = Path((b"GET", b"POST"), changes=True)


class Desk(Owner[Exchange]):
    """See the module's text. Owner of the exchanges of its port.

    `serve(exchange, path, now_s)` answers a request for one of `paths`, or calls `wait` and answers it later, with
    `late` at the latest. `where`: a sentence that says what is asked for elsewhere.
    """

    terms = DEFAULT_TERMS

    def __init__(
        self,
        paths: Mapping[bytes, Path],
        serve: Callable[[Exchange, bytes, float], None],
        late: Callable[[Exchange, float], None],
        *,
        where: str,
        local_changes: bool = False,
    ) -> None:
        self._paths = paths
        self._local_changes = local_changes
        self._serve = serve
        self._late = late
        self._unknown = Refusal(
            status=404, code="unknown_path", detail=f"Here are {_listed([*paths])}. {where}", hopeless=True
        )
        self.waiting: dict[Exchange, None] = {}
        """Those that are not answered yet, oldest first."""

    def place(self, exchange: Exchange, now_s: float) -> None:
        """Answer a request; what the admin server calls for each."""
        exchange.give_to(self)
        head = exchange.head
        name = head.target.partition(b"?")[0]
        path = self._paths.get(name)
        if path is None:
            exchange.refuse(self._unknown, now_s)
        elif head.method not in path.methods:
            exchange.refuse(_method_refused(name, path), now_s)
        elif path.changes and not is_ours(head):
            exchange.refuse(_page_refused(name), now_s)
        elif path.changes and self._local_changes and exchange.downstream.peer not in LOCAL:
            exchange.refuse(_stranger_refused(name), now_s)
        else:
            self._serve(exchange, name, now_s)

    def wait(self, exchange: Exchange, *, deadline_s: float, now_s: float) -> None:
        """It is answered later: `late` is called at `deadline_s` where it was not."""
        self.waiting[exchange] = None
        exchange.hold(self, deadline_s=deadline_s, now_s=now_s)

    def on_hold_timeout(self, exchange: Exchange, now_s: float) -> None:
        self._late(exchange, now_s)

    def on_ended(self, exchange: Exchange, now_s: float) -> None:
        self.waiting.pop(exchange, None)

    def on_turned_away(self, exchange: Exchange, now_s: float) -> None:
        """Never: nothing is sent anywhere."""

    def on_unsent(self, exchange: Exchange, cause: str, now_s: float) -> None:
        """Never: nothing is sent anywhere."""


def answer_json(exchange: Exchange, status: int, value: Any, now_s: float) -> None:
    """Answer with a value as JSON."""
    exchange.answer(status, JSON, msgspec.json.encode(value), now_s)


def is_ours(head: RequestHead) -> bool:
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


def _listed(words: list[bytes]) -> str:
    names = [word.decode() for word in words]
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)


def _method_refused(name: bytes, path: Path) -> Refusal:
    allowed = " or ".join(method.decode() for method in path.methods)
    return Refusal(
        status=405, code="method_not_allowed", detail=f"Ask for {name.decode()} with {allowed}.", hopeless=True
    )


def _page_refused(name: bytes) -> Refusal:
    return Refusal(
        status=403,
        code="refused",
        detail=f"{name.decode()} is not taken from web pages: ask by address (127.0.0.1), without an Origin.",
        hopeless=True,
    )


def _stranger_refused(name: bytes) -> Refusal:
    return Refusal(
        status=403,
        code="refused",
        detail=f"{name.decode()} is taken from this machine or pod alone: kubectl port-forward leads there, or "
        "--admin-changes anybody lets all in who reach this port.",
        hopeless=True,
    )
