"""The loops that tests run on: what a test has closed is gone before its loop is.

A transport that is closed goes in the loop's next turn, or once its other side has gone. A loop that is closed before
calls it a leak, of a test that has none: so each loop takes some turns more before its end. What is open then was left
open, and warns, which is an error.
"""

import asyncio

import uvloop

_TURNS = 20
"""Two for each side of a connection; what needs more has not been closed."""


class StockLoop(asyncio.SelectorEventLoop):
    """asyncio's own."""

    def close(self) -> None:
        """Close it after some turns."""
        _settle(self)
        super().close()


class UvLoop(uvloop.Loop):
    """uvloop's."""

    def close(self) -> None:
        """Close it after some turns."""
        _settle(self)
        super().close()


def _settle(loop: asyncio.AbstractEventLoop) -> None:
    if not loop.is_closed() and not loop.is_running():
        loop.run_until_complete(_turns())


async def _turns() -> None:
    for _ in range(_TURNS):
        await asyncio.sleep(0)
