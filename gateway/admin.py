"""The process of the admin port: it asks the parent for each answer, since the parent knows, and has no loop.

It can be replaced at any time: it knows nothing itself. See `gateway.parent` for what the paths mean.
"""

import asyncio
import itertools
import signal
import socket
from typing import Final

from gateway.channel import Channel
from gateway.messages import Alive, Answer, Ask, FromParent, Leave, LeaveAtOnce, Ready
from zerogate.clock import now
from zerogate.errors import Refusal
from zerogate.garbage import set_aside
from zerogate.http.admin import DRAIN, JSON, Desk, Path
from zerogate.http.exchange import Exchange
from zerogate.http.listener import Listener
from zerogate.http.server import Server
from zerogate.http.sweep import Sweep
from zerogate.tasks import Nursery

PATHS: Final = {
    b"/readyz": Path(),
    b"/healthz": Path(),
    b"/metrics": Path(),
    b"/services": Path(),
    b"/reload": Path((b"POST",), changes=True),
    b"/drain": DRAIN,
}
ANSWER_S: Final = 10.0
"""Most time for the parent's answer; a reload has half of it."""
LAST_ANSWERS_S: Final = 1.0
LIFE_S: Final = 1.0
"""As often as workers report: while it is heard, a worker that is not has no excuse (`gateway.vitals`)."""
_SILENT: Final = Refusal(
    status=503, code="no_answer", detail="The gateway's parent process does not answer. Look at its standard error."
)


class AdminPort:
    """See the module's text. Make it on the loop it shall run on. `drain_s`: most time for the answer to /drain;
    `local_changes`: /reload and /drain are for this machine alone."""

    def __init__(self, sock: socket.socket, *, drain_s: float, local_changes: bool) -> None:
        self._drain_s = drain_s
        self._desk = Desk(
            PATHS, self._ask, self._too_late, where="Requests for services go to another port.",
            local_changes=local_changes,
        )  # fmt: skip
        self._listener = Listener(Server(self._desk.place, Sweep(asyncio.get_running_loop())), sock)
        self._channel = Channel(self._on_message, self._on_orphaned)
        self._numbers = itertools.count()
        self._asked: dict[int, Exchange] = {}
        self._told_to_leave = asyncio.Event()

    async def run(self, channel: socket.socket) -> None:
        """Answer until told to leave."""
        await self._channel.open(channel)
        # who leaves is the parent's to say: it has something to tell until the end
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: None)
        await self._listener.start()
        set_aside()
        self._channel.say(Ready())
        signs = Nursery()
        signs.start(self._show_life(), name="signs of life")
        await self._told_to_leave.wait()
        self._listener.stop_accepting()
        await self._listener.drain(deadline_s=LAST_ANSWERS_S)
        await signs.aclose()
        await self._channel.close(within_s=LAST_ANSWERS_S)

    async def _show_life(self) -> None:
        while True:
            await asyncio.sleep(LIFE_S)
            if not self._channel.is_behind:
                self._channel.say(Alive())

    def _ask(self, exchange: Exchange, path: bytes, now_s: float) -> None:
        number = next(self._numbers)
        self._asked[number] = exchange
        wait_s = ANSWER_S + (self._drain_s if path == b"/drain" else 0.0)
        self._desk.wait(exchange, deadline_s=now_s + wait_s, now_s=now_s)
        accept = exchange.head.field(b"accept") or b""
        self._channel.say(Ask(number, path.decode(), accept.decode("latin-1")))

    def _too_late(self, exchange: Exchange, now_s: float) -> None:
        exchange.refuse(_SILENT, now_s)

    def _on_message(self, message: FromParent) -> None:
        if isinstance(message, Answer):
            exchange = self._asked.pop(message.number, None)
            if exchange is not None and exchange in self._desk.waiting:
                fields = ((b"Content-Type", message.content_type.encode()),) if message.content_type else JSON
                exchange.answer(message.status, fields, message.body, now())
        elif isinstance(message, Leave | LeaveAtOnce):
            self._told_to_leave.set()

    def _on_orphaned(self) -> None:
        self._told_to_leave.set()


async def serve(sock: socket.socket, channel: socket.socket, *, drain_s: float, local_changes: bool) -> None:
    """The process's life."""
    await AdminPort(sock, drain_s=drain_s, local_changes=local_changes).run(channel)
