"""Signals while a process has no loop yet, and while it has none any more. Imports nothing but what Python has loaded.

What a role needs takes up to two seconds to import. Who is told to leave meanwhile leaves: nothing has begun, so that
is in order, and Ctrl-C shows no traceback of some import. The first process of a container needs a handler for that,
because the kernel keeps signals without one from it. Called by each role's `__main__`, first and last; in between
`zerogate.startup` and the gateway's parent take signals.
"""

import os
import signal
from typing import Final

_TO_LEAVE: Final = (signal.SIGINT, signal.SIGTERM)


def leave_at_once() -> None:
    """Until a loop takes them, SIGINT and SIGTERM end this process where it is, with 0."""
    for number in _TO_LEAVE:
        signal.signal(number, lambda *_: os._exit(0))


def leave_already() -> None:
    """It leaves: nobody's signal changes its exit code any more."""
    for number in _TO_LEAVE:
        signal.signal(number, signal.SIG_IGN)
