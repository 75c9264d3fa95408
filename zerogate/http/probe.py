"""Readiness: asks one address over HTTP, again and again, and tells when the answer changes.

Owned by whoever owns a replica: the local runtime while a child starts, the sidecar for its model server. A refused
connection on loopback is known within the call that tries it, so a probe of a server that does not listen yet costs a
socket and no task (16 µs): a hundred replicas starting at once, each asked every 25 ms, cost a few percent of a core.
A connection that the server keeps alive is used again. One question is open at a time, each with a time limit.
"""

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from typing import Final

from zerogate.http.question import Http1Question, Question, Reader, UnreadableError
from zerogate.runtime.interface import Address

INTERVAL_S: Final = 0.025
"""While starting. A held request waits half of it on average after its replica is up; probes are cheap enough."""

TIMEOUT_S: Final = 2.0
"""A model server whose loop is busy loading takes the connection and answers late; giving up early only asks twice."""

READY_BELOW: Final = 500
"""Any answer below is ready: a server without the path says 404 and serves all the same."""

READ_BYTES: Final = 65536

NOT_ASKED: Final = "it was not asked yet"


def question(address: Address, path: str, *, protocol: str, ready_below: int) -> Question:
    """What is asked of a server that speaks this protocol, which is one of the policy's words."""
    if protocol == "h2c":
        # not loaded where nobody asks for it: a sidecar is in every pod
        from zerogate.http.h2.question import Http2Question

        return Http2Question(address, path, ready_below=ready_below)
    return Http1Question(address, path, ready_below=ready_below)


class Probe:
    """Asks `path` at `address` until `close`; `on_change(is_ready)` is called on the loop at each transition.

    It begins as not ready. `ready_interval_s`: the pause between questions while ready; None: after the first ready
    answer it asks no more. `patience`: so many questions in a row a ready server has to leave unanswered until it is
    not ready any more, because one that is busy is not one that is gone. `last` says in words what came of the latest
    question, for people.
    """

    def __init__(
        self,
        address: Address,
        path: str,
        on_change: Callable[[bool], None],
        *,
        interval_s: float = INTERVAL_S,
        ready_interval_s: float | None = None,
        timeout_s: float = TIMEOUT_S,
        ready_below: int = READY_BELOW,
        patience: int = 1,
        protocol: str = "http1",
    ) -> None:
        self.is_ready = False
        self.last = NOT_ASKED
        self._address = address
        self._on_change = on_change
        self._interval_s = interval_s
        self._ready_interval_s = ready_interval_s
        self._timeout_s = timeout_s
        self._patience = patience
        self._unanswered = 0
        self._question = question(address, path, protocol=protocol, ready_below=ready_below)
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._sock: socket.socket | None = None
        self._reader: Reader | None = None
        self._is_asking = False
        self._is_reused = False
        self._is_closed = False
        self._asked_s = 0.0

    def start(self) -> None:
        """Ask now, then at each interval."""
        self._tick()

    def close(self) -> None:
        """Ask no more. May be called at any time, and twice."""
        self._is_closed = True
        self._schedule()
        self._drop()

    def doubt(self, why: str) -> None:
        """Something else says that the server is gone: it is not ready until it answers again, and is asked at once."""
        if self.is_ready and not self._is_closed:
            self._fail(why)

    # one question after the other

    def _tick(self) -> None:
        self._timer = None
        if not self._is_asking:
            self._ask()
        elif self._loop.time() - self._asked_s >= self._timeout_s:
            self._late()
        self._schedule()

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        pause_s = self._ready_interval_s if self.is_ready else self._interval_s
        if pause_s is not None and not self._is_closed:
            self._timer = self._loop.call_later(min(pause_s, self._timeout_s), self._tick)

    def _ask(self) -> None:
        if self._reader is None or not self._reader.can_reuse:
            self._drop()
        self._is_asking = True
        self._is_reused = self._sock is not None
        self._asked_s = self._loop.time()
        try:
            if self._sock is None:
                self._connect()
            self._send()
        except OSError as error:
            self._lost(error.strerror or str(error))

    def _connect(self) -> None:
        address = self._address
        family = socket.AF_UNIX if address.path else socket.AF_INET6 if ":" in address.host else socket.AF_INET
        self._sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        code = self._sock.connect_ex(address.path or (address.host, address.port))
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, os.strerror(code))

    def _send(self) -> None:
        assert self._sock is not None
        fd = self._sock.fileno()
        try:
            self._sock.send(self._question.data)
        except BlockingIOError:
            self._loop.add_writer(fd, self._on_writable)
            return
        self._reader = self._question.reader(self._on_answer)
        self._loop.add_reader(fd, self._on_readable)

    def _on_writable(self) -> None:
        assert self._sock is not None
        self._loop.remove_writer(self._sock.fileno())
        try:
            self._send()
        except OSError as error:
            self._lost(error.strerror or str(error))

    def _on_readable(self) -> None:
        assert self._sock is not None
        assert self._reader is not None
        try:
            piece = self._sock.recv(READ_BYTES)
            if not piece:
                self._lost("it closed the connection without an answer")
            else:
                self._reader.feed(piece)
        except BlockingIOError:
            return
        except OSError as error:
            self._lost(error.strerror or str(error))
        except UnreadableError as error:
            if self._is_asking:
                self._fail(str(error))
            else:
                self._drop()

    def _on_answer(self, is_ready: bool, what: str) -> None:
        if not self._is_asking:
            return
        self._is_asking = False
        self._unanswered = 0
        if is_ready and self._ready_interval_s is None:
            self._drop()
        self._set(is_ready, what)

    def _late(self) -> None:
        self._unanswered += 1
        if self.is_ready and self._unanswered < self._patience:
            self._drop()
            self._ask()
        else:
            self._fail(f"it took the question and did not answer within {self._timeout_s:g} s")

    def _lost(self, why: str) -> None:
        """The connection broke. One that was kept alive may have been closed for being idle: that says nothing."""
        if not self._is_asking:
            self._drop()
        elif self._is_reused:
            self._drop()
            self._ask()
        else:
            self._fail(why)

    def _fail(self, why: str) -> None:
        self._unanswered = 0
        self._drop()
        self._set(False, why)

    def _drop(self) -> None:
        self._is_asking = False
        self._reader = None
        if self._sock is not None:
            fd = self._sock.fileno()
            self._loop.remove_reader(fd)
            self._loop.remove_writer(fd)
            self._sock.close()
            self._sock = None

    def _set(self, is_ready: bool, why: str) -> None:
        self.last = why
        if is_ready is not self.is_ready:
            self.is_ready = is_ready
            self._schedule()
            self._on_change(is_ready)


async def answers(
    address: Address, path: str, *, timeout_s: float, ready_below: int = READY_BELOW, protocol: str = "http1"
) -> bool:
    """Whether the server is ready within `timeout_s`; asks until it is."""
    ready = asyncio.Event()
    probe = Probe(
        address, path, lambda _: ready.set(), timeout_s=timeout_s, ready_below=ready_below, protocol=protocol
    )  # fmt: skip
    probe.start()
    try:
        async with asyncio.timeout(timeout_s):
            await ready.wait()
    except TimeoutError:
        return False
    finally:
        probe.close()
    return True
