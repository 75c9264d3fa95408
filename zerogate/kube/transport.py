"""HTTP with an API server: one throttle for all who ask, deadlines, one error tree. The shell of `rate.py`.

A request waits for its turn by priority, and is asked again only where that is harmless: after 429 (nothing was
done), and once with new credentials after 401. Everything else is the caller's decision, who learns by `Unreachable`
that nobody knows what the server did.

Connections are kept alive for 30 s (the server keeps them longer), so a wake rides on a warm one while anything else
happens, such as a lease renewed every two seconds. Each watch has a connection of its own.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec

from zerogate.kube.access import Access
from zerogate.kube.decoding import Lines, status_of
from zerogate.kube.errors import (
    Asked,
    KubeError,
    NotDue,
    Silent,
    TooManyRequests,
    Unauthorized,
    Unreachable,
    Unreadable,
    refusal,
)
from zerogate.kube.rate import Priority, Rates, Throttle

TIMEOUT_S = 10.0
"""Of one request without its wait for a turn. The server gives up on most at 60 s; nobody here can wait that long."""
CONNECT_S = 5.0
TRIES_AFTER_429 = 3
LONGEST_RETRY_S = 10.0
"""Whatever the server names: who asked has a deadline of its own."""
AT_ONCE = 32
"""Requests under way besides leases and watches, and as many wakes, and as many reviews of tokens: more of them would
only wait inside the server, and each on a connection of its own, whose handshake costs both sides as much as the
request."""

_FAILURES = (aiohttp.ClientError, TimeoutError, OSError)


class Call(msgspec.Struct, frozen=True):
    """One request. `data` is a body that is encoded already, of the type `content`."""

    method: str
    path: str
    asked: Asked
    query: Mapping[str, str] = {}
    data: bytes | None = None
    content: str = "application/json"
    accept: str = ""
    """The type of the answer, where it is not JSON by name."""
    priority: Priority = Priority.READ
    is_due: Callable[[], bool] | None = None
    """Asked right before it is sent, which may be long after it was made: False is `NotDue`."""


class WatchStream:
    """The lines of one watch, as bytes. KubeError where the stream breaks; it ends where the server closes it.

    `silence_s` may be changed at any time: it holds for the next read.
    """

    def __init__(self, asked: Asked, response: aiohttp.ClientResponse, silence_s: float) -> None:
        self.asked = asked
        self.silence_s = silence_s
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        lines = Lines()
        while data := await self._read():
            try:
                complete = lines.feed(data)
            except ValueError as error:
                raise Unreadable(self.asked, str(error)) from error
            for line in complete:
                yield line

    async def _read(self) -> bytes:
        try:
            async with asyncio.timeout(self.silence_s):
                return await self._response.content.readany()
        except TimeoutError as error:
            raise Silent(self.asked, f"nothing for {self.silence_s:.0f} s") from error
        except _FAILURES as error:
            raise Unreachable(self.asked, _said(error)) from error


class Transport:
    """The connections to one API server."""

    def __init__(self, access: Access, *, rates: Rates | None, clock: Callable[[], float]) -> None:
        self._access = access
        self._turns = _Turns(Throttle(rates), clock)
        self._places = asyncio.Semaphore(AT_ONCE)
        self._own_places = {priority: asyncio.Semaphore(AT_ONCE) for priority in (Priority.WAKE, Priority.REVIEW)}
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, ssl=access.tls or False, keepalive_timeout=30.0, socket_factory=_watched_socket
            ),
            # Compressed lists would cost both sides more than the bytes do inside a cluster.
            headers={"User-Agent": "zerogate", "Accept": "application/json", "Accept-Encoding": "identity"},
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_S, sock_connect=CONNECT_S),
            read_bufsize=2**18,
        )

    async def aclose(self) -> None:
        self._turns.stop()
        await self._session.close()

    async def request(self, call: Call) -> bytes:
        """The body of a 2xx answer, else KubeError."""
        tries, renewed = 1, False
        while True:
            await self._turns.wait(call.priority)
            try:
                if call.priority is Priority.LEASE:
                    return await self._answer(call)
                async with self._own_places.get(call.priority, self._places):
                    return await self._answer(call)
            except TooManyRequests as error:
                if tries == TRIES_AFTER_429:
                    raise
                tries += 1
                pause_s = 1.0 if error.retry_after_s is None else error.retry_after_s
            except Unauthorized:
                if renewed:
                    raise
                renewed, pause_s = True, 0.0
                await self._access.renew()
            await asyncio.sleep(min(pause_s, LONGEST_RETRY_S))

    @asynccontextmanager
    async def stream(self, call: Call, *, silence_s: float) -> AsyncIterator[WatchStream]:
        """An answer without an end. `Unreachable` where nothing is read for `silence_s`."""
        await self._turns.wait(call.priority)
        async with _deadline(call.asked, silence_s):
            response = await self._send(call, timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S))
        try:
            if response.status != 200:
                async with _deadline(call.asked, silence_s):
                    raise await _refused(call.asked, response)
            yield WatchStream(call.asked, response, silence_s)
        finally:
            # Nothing more is wanted of it, and a peer that hangs would never confirm a polite end of TLS.
            if response.connection is not None and response.connection.transport is not None:
                response.connection.transport.abort()
            response.close()

    async def _answer(self, call: Call) -> bytes:
        if call.is_due is not None and not call.is_due():
            raise NotDue(call.asked)
        async with await self._send(call) as response:
            if not 200 <= response.status < 300:
                raise await _refused(call.asked, response)
            return await _body(call.asked, response)

    async def _send(self, call: Call, **more: Any) -> aiohttp.ClientResponse:
        if self._session.closed:
            raise Unreachable(call.asked, "this client was closed")
        url = self._access.server + call.path
        headers = self._access.headers() | ({"Content-Type": call.content} if call.data is not None else {})
        if call.accept:
            headers["Accept"] = call.accept
        if self._access.server_name:
            more["server_hostname"] = self._access.server_name
        try:
            return await self._session.request(
                call.method,
                url,
                params=call.query,
                data=call.data,
                headers=headers,
                proxy=self._access.proxy,
                **more,
            )
        except _FAILURES as error:
            raise Unreachable(call.asked, _said(error)) from error


class _Turns:
    """The shell of `Throttle`: a future per ticket, and one timer for the next."""

    def __init__(self, throttle: Throttle, clock: Callable[[], float]) -> None:
        self._throttle = throttle
        self._clock = clock
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def wait(self, priority: Priority) -> None:
        ticket = self._throttle.enter(priority)
        self._waiting[ticket] = turn = asyncio.get_running_loop().create_future()
        self._look()
        try:
            await turn
        finally:
            self._throttle.leave(ticket)
            self._waiting.pop(ticket, None)

    def stop(self) -> None:
        if self._timer:
            self._timer.cancel()

    def _look(self) -> None:
        self.stop()
        let_go, wait_s = self._throttle.due(self._clock())
        for ticket in let_go:
            turn = self._waiting.pop(ticket)
            if not turn.done():
                turn.set_result(None)
        self._timer = None if wait_s is None else asyncio.get_running_loop().call_later(wait_s, self._look)


@asynccontextmanager
async def _deadline(asked: Asked, seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise Unreachable(asked, _said(error)) from error


async def _refused(asked: Asked, response: aiohttp.ClientResponse) -> KubeError:
    status = status_of(await _body(asked, response))
    return refusal(asked, response.status, status, retry_after=response.headers.get("Retry-After"))


async def _body(asked: Asked, response: aiohttp.ClientResponse) -> bytes:
    try:
        return await response.read()
    except _FAILURES as error:
        raise Unreachable(asked, _said(error)) from error


def _said(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error) or type(error).__name__


def _watched_socket(address: Any) -> socket.socket:
    """A socket on which the kernel itself notices a dead peer: after 15 s of silence, 3 questions 5 s apart."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setblocking(False)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in ((socket.TCP_KEEPIDLE, 15), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3)):
        made.setsockopt(socket.IPPROTO_TCP, option, value)
    # Keep-alive asks nothing while sent data waits for its acknowledgement: that has a limit of its own.
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 20_000)
    return made
