"""The states of a client's connection of HTTP/1.1 (`server`), as one table. Pure.

    NEW ──► OPEN ──► TUNNEL
     │       ├─────────┴──► CLOSING ──► LINGERING
     │       └────────────────────────►    │            every state ──► OVER
     ├─────► CLOSING
     └─────► HEARD ──► OPEN, CLOSING

The states of the requests on it are the exchanges' own (`zerogate.http.phases`): here is only whether bytes are read as
requests, and how the connection ends.
"""

from typing import Final

from zerogate.errors import ZerogateError

NEW: Final = 0
"""It is not clear yet that HTTP/1.1 is spoken."""
HEARD: Final = 1
"""It is one too many: a head is read, which may ask for another protocol."""
OPEN: Final = 2
"""Requests are read."""
TUNNEL: Final = 3
"""It is a WebSocket's."""
CLOSING: Final = 4
"""No further request is taken, and no answer begins; what was written is on its way."""
LINGERING: Final = 5
"""The last answer is sent and our side has ended; what still comes is dropped for a while."""
OVER: Final = 6
"""It is lost, or belongs to another protocol."""
STATES: Final = ("new", "heard", "open", "a tunnel", "closing", "lingering", "over")

BEGIN: Final = 0
HEAR: Final = 1
SWITCH: Final = 2
CLOSE: Final = 3
LINGER: Final = 4
LOSE: Final = 5
EVENTS: Final = ("begin", "be heard", "become a tunnel", "close", "linger", "be lost")

NEXT: Final[dict[int, dict[int, int]]] = {
    NEW: {BEGIN: OPEN, HEAR: HEARD, CLOSE: CLOSING, LOSE: OVER},
    HEARD: {BEGIN: OPEN, CLOSE: CLOSING, LOSE: OVER},
    OPEN: {SWITCH: TUNNEL, CLOSE: CLOSING, LINGER: LINGERING, LOSE: OVER},
    TUNNEL: {CLOSE: CLOSING, LINGER: LINGERING, LOSE: OVER},
    CLOSING: {SWITCH: CLOSING, CLOSE: CLOSING, LINGER: LINGERING, LOSE: OVER},
    LINGERING: {CLOSE: LINGERING, LOSE: OVER},
    OVER: {CLOSE: OVER, LOSE: OVER},
}
"""The next state by state and event; an event that is not there is not legal. A replica's 101 may still come for a
client that is being cut."""


class IllegalTransitionError(ZerogateError):
    """A bug: an event that cannot happen in this state. Nothing was changed."""


def next_state(state: int, event: int) -> int:
    """Raises IllegalTransitionError."""
    after = NEXT[state].get(event)
    if after is None:
        raise IllegalTransitionError(f"a client's connection that is {STATES[state]} cannot {EVENTS[event]}")
    return after
