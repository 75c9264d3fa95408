"""The states of a turn on a connection to a replica (`turn`), as one table. Pure.

    IDLE ─► ASKED ─► HEAD ─┬─► BODY ────────► SPENT ─► IDLE
      ▲       │            ├─► UNTIL_CLOSE ─► ENDED
      │       ▼            ├─► HEADED ──────► IDLE
      └─── COUNTED         └─► SWITCHING ───► TUNNEL          every state ─► CLOSED

It is about the answer. The request's half knows "not yet" and "all sent" only, and matters once: an answer that is
complete before its request closes the connection.
"""

from typing import Final

from zerogate.errors import ZerogateError

IDLE: Final = 0
ASKED: Final = 1
"""A request is being sent or was; nothing of its answer has come."""
EARLY: Final = 2
"""Asked in the midst of the read that brought the answer before: what else that read brings cannot be the answer."""
HEAD: Final = 3
"""The answer has begun; its head, or one behind an informational answer, is not complete."""
COUNTED: Final = 4
"""The head was known, and its body is counted: the reader has seen nothing of the answer."""
BODY: Final = 5
UNTIL_CLOSE: Final = 6
"""The body goes on until the replica ends its side."""
ENDED: Final = 7
"""It has: the answer is complete once the connection is lost without an error."""
HEADED: Final = 8
"""The answer to a HEAD is complete; the read that brought it is not over, and must bring nothing else."""
SPENT: Final = 9
"""The answer is complete, the read that brought its end is not over."""
SWITCHING: Final = 10
"""A 101 that opens the WebSocket has come."""
TUNNEL: Final = 11
CLOSED: Final = 12
STATES: Final = (
    "idle", "asked", "asked early", "in a head", "counting a body", "in a body", "in a body until the close",
    "at the replica's end", "behind the answer to a HEAD", "spent", "switching", "a tunnel", "closed",
)  # fmt: skip

ASK: Final = 0
HEAR: Final = 1
"""The first bytes of an answer, for the reader."""
KNOW: Final = 2
"""A known head, whose body is counted."""
BEGIN_BODY: Final = 3
BEGIN_ENDLESS: Final = 4
SKIP_BODY: Final = 5
SWITCH: Final = 6
OPEN: Final = 7
END: Final = 8
"""The answer is complete, and the connection stays."""
READ_OVER: Final = 9
END_OF_FILE: Final = 10
CLOSE: Final = 11
EVENTS: Final = (
    "ask", "hear of an answer", "count a body", "begin a body", "begin a body without an end", "skip a body",
    "switch", "become a tunnel", "end its answer", "end a read", "meet the end of file", "close",
)  # fmt: skip

NEXT: Final[dict[int, dict[int, int]]] = {
    state: {READ_OVER: state, END_OF_FILE: state, CLOSE: CLOSED} | row
    for state, row in {
        IDLE: {ASK: ASKED},
        ASKED: {HEAR: HEAD, KNOW: COUNTED, END: IDLE},
        EARLY: {READ_OVER: ASKED},
        HEAD: {BEGIN_BODY: BODY, BEGIN_ENDLESS: UNTIL_CLOSE, SKIP_BODY: HEADED, SWITCH: SWITCHING},
        COUNTED: {END: IDLE},
        BODY: {END: SPENT},
        UNTIL_CLOSE: {END_OF_FILE: ENDED},
        ENDED: {},
        HEADED: {END: IDLE},
        SPENT: {ASK: EARLY, READ_OVER: IDLE},
        SWITCHING: {OPEN: TUNNEL},
        TUNNEL: {},
        CLOSED: {},
    }.items()
}
"""The next state by state and event; an event that is not there is not legal. Those of a warm
request are set in line."""


class IllegalTransitionError(ZerogateError):
    """A bug: an event that cannot happen in this state. Nothing was changed."""
