"""A process from its first word to its exit code: its log, its settings or all that is wrong with them, its signals.

The same for each role, which gives what it reads and what it does then. Exit codes: 0 it left in order, 1 the machine
or the cluster lacks something, 2 a setting is wrong. Nobody sees a traceback for either.
"""

import asyncio
import logging
import signal
import sys
from collections.abc import Callable
from typing import Final, TypeVar

from zerogate.errors import DefinitionErrors, ZerogateError
from zerogate.process import raise_open_files

log = logging.getLogger(__name__)

LACKING: Final = 1
WRONG: Final = 2

T = TypeVar("T")


def run(name: str, read: Callable[[], T], act: Callable[[T], int | None], *, log_format: str = "") -> int:
    """Do `act` with what `read` gives; the exit code. `name`: how the process calls itself."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format=log_format or f"{name}: %(message)s")
    try:
        settings = read()
    except DefinitionErrors as errors:
        for error in errors.errors:
            sys.stderr.write(f"{name}: {error}\n")
        return WRONG
    raise_open_files()
    try:
        return act(settings) or 0
    except ZerogateError as error:
        sys.stderr.write(f"{name}: {error}\n")
        return LACKING


def told_to_leave(at_once: Callable[[], None] | None = None) -> asyncio.Event:
    """Set with the first SIGINT or SIGTERM that the running loop hears; each further one calls `at_once`."""
    left = asyncio.Event()

    def on_signal() -> None:
        if left.is_set() and at_once is not None:
            log.info("leaving at once")
            at_once()
        left.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    return left
