"""Letting the kernel find out that a replica's machine is gone: power lost, cable cut, no word of an end.

Who waits for an answer is asked for by keep-alive; what was written and is not acknowledged has its own limit, which
keep-alive does not look at. That limit ends a connection whose other side acknowledges and takes nothing, too: it is
lifted before anything is written that may have to wait until a server reads on, and set again for the next request. Of
HTTP/2 it stays: what its windows let out fits mostly into what the other side's kernel receives. Called by the clients
of both versions.
"""

import socket
from typing import Any, Final

DEAD_AFTER_MS: Final = 30_000
KEEP_ALIVE_IDLE_S: Final = 20
KEEP_ALIVE_EVERY_S: Final = 5
KEEP_ALIVE_PROBES: Final = 2
"""Half a minute after its last word; longer than what a virtual machine that moves is away. HTTP/2's PING is not used
for it: a model server that computes on its loop answers late, and servers of gRPC take one in five minutes for an
attack. Linux alone would try for a quarter of an hour (tcp_retries2)."""


def notice_death(transport: Any) -> None:
    """Of what is not TCP nothing is asked: its other side is on this machine."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEP_ALIVE_IDLE_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEP_ALIVE_EVERY_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEP_ALIVE_PROBES)
    expect_acknowledgement(transport)


def expect_acknowledgement(transport: Any) -> None:
    """What is written from now on has to be acknowledged in time."""
    _limit(transport, DEAD_AFTER_MS)


def bear_with_a_slow_reader(transport: Any) -> None:
    """What is written from now on may wait for as long as the other side acknowledges that it is there."""
    _limit(transport, 0)


def _limit(transport: Any, limit_ms: int) -> None:
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, limit_ms)
