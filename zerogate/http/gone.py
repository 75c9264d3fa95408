"""Which clients have gone, of those whose connections are not read: the kernel tells.

A transport that is paused shows no end of file, so a client that leaves while its upload waits would keep its place.
Asking for each connection now and then costs half a core with 10,000 of them; one epoll for all costs nothing until
somebody leaves. Linux only, as the rest of the local side. Owned by `server`.

A client that has closed only its sending side counts as gone too, as in nginx: docs/operations.md says so.
"""

import asyncio
import select
from collections.abc import Callable
from typing import Any, Final

AT_ONCE: Final = 256
"""Clients told of in one pass of the loop: 2 µs each."""


class GoneWatch:
    """See the module's text."""

    def __init__(self) -> None:
        self._epoll: select.epoll | None = None
        self._callbacks: dict[int, Callable[[], None]] = {}

    def watch(self, transport: Any, on_gone: Callable[[], None]) -> int:
        """Call `on_gone` once when the client has closed; at once on the next pass where it has already.

        Returns the descriptor for `forget`; -1 where the transport has none.
        """
        sock = transport.get_extra_info("socket")
        descriptor: int = sock.fileno() if sock is not None else -1
        if descriptor < 0:
            return -1
        if self._epoll is None:
            self._epoll = select.epoll()
            asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._on_events)
        try:
            self._epoll.register(descriptor, select.EPOLLRDHUP | select.EPOLLONESHOT)
        except FileExistsError:
            self._epoll.modify(descriptor, select.EPOLLRDHUP | select.EPOLLONESHOT)
        self._callbacks[descriptor] = on_gone
        return descriptor

    def forget(self, descriptor: int, on_gone: Callable[[], None]) -> None:
        """Watch it no more; nothing where the descriptor belongs to another connection by now."""
        if self._callbacks.get(descriptor) == on_gone:
            del self._callbacks[descriptor]
            if self._epoll is not None:
                try:
                    self._epoll.unregister(descriptor)
                except OSError:
                    return  # closed: the kernel has forgotten it by itself

    def close(self) -> None:
        """Let go of the descriptor."""
        if self._epoll is not None:
            asyncio.get_running_loop().remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None
            self._callbacks.clear()

    def _on_events(self) -> None:
        if self._epoll is None:
            return
        for descriptor, _ in self._epoll.poll(0, AT_ONCE):
            on_gone = self._callbacks.get(descriptor)
            if on_gone is not None:
                self.forget(descriptor, on_gone)
                on_gone()
