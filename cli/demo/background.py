"""Work in a thread beside the story, which looks in from time to time to draw what has come so far."""

from collections.abc import Callable
from concurrent.futures import Future, wait
from threading import Thread
from typing import Final, TypeVar

T = TypeVar("T")

FRAME_S: Final = 0.05
"""Between two looks: twenty pictures a second are smooth, and cost a hundredth of a core."""


def in_background(work: Callable[[], T]) -> Future[T]:
    """Begin `work`. The thread never keeps the process from ending."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as failure:  # noqa: BLE001 (it is raised again where the result is asked for)
            future.set_exception(failure)

    Thread(target=run, daemon=True).start()
    return future


def is_done(future: Future[T]) -> bool:
    """Whether it is over, after at most one frame."""
    return bool(wait([future], timeout=FRAME_S).done)
