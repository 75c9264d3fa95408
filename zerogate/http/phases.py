"""The phases of an exchange (`exchange`), as one table. Pure.

ROUTING ──► HELD ──► CONNECTING ──► SENT ──► ANSWERING ──► ENDED
   └───────────────────►┘  ▲▼ unsent  │▲▼ unsent    every phase ──► ENDED
                          HELD        │HELD
                                      └──► TUNNEL: a WebSocket's frames, in `zerogate.http.tunnel`
"""

from typing import Final

from zerogate.errors import ZerogateError

ROUTING: Final = 0
HELD: Final = 1
CONNECTING: Final = 2
SENT: Final = 3
ANSWERING: Final = 4
TUNNEL: Final = 5
ENDED: Final = 6
PHASES: Final = ("routing", "held", "connecting", "sent", "answering", "a tunnel", "ended")

NEXT: Final = (
    frozenset({HELD, CONNECTING, ENDED}),
    frozenset({CONNECTING, ENDED}),
    frozenset({SENT, HELD, CONNECTING, ENDED}),
    frozenset({ANSWERING, TUNNEL, HELD, CONNECTING, ENDED}),
    frozenset({ENDED}),
    frozenset({ENDED}),
    frozenset[int](),
)
"""The phases that may follow, by phase. Those of a warm request are set in line, behind a look at what is illegal."""


class IllegalTransitionError(ZerogateError):
    """A bug: an event that cannot happen in this phase. The exchange is unchanged."""
