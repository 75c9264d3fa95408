"""The admin port: aiohttp, beside the traffic and never on its way."""

import logging
import socket
from typing import Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from zerogate.admin.app import Box, make_app
from zerogate.http.listener import bind
from zerogate.runtime.interface import Address


class _OursOnly(logging.Filter):
    """Lets pass what went wrong here. Bytes that are not HTTP got their 400, and their traceback says nothing."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


_LOG: Final = logging.getLogger("aiohttp.server")
_OURS_ONLY: Final = _OursOnly()


class AdminServer:
    """Serves the admin API of one box."""

    def __init__(self, box: Box, address: Address) -> None:
        self._address = address
        self._runner = web.AppRunner(make_app(box, bound_to=address.host), access_log=None, logger=_LOG)
        _LOG.addFilter(_OURS_ONLY)
        self._sock: socket.socket | None = None

    def bind(self) -> None:
        """Take the port. Raises MachineError."""
        self._sock = bind(self._address, what="admin")

    async def start(self) -> None:
        """Serve it."""
        assert self._sock is not None
        await self._runner.setup()
        await web.SockSite(self._runner, self._sock).start()

    async def stop(self) -> None:
        """Close the port."""
        await self._runner.cleanup()
        if self._sock is not None:
            self._sock.close()
