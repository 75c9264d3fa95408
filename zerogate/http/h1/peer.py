"""What the kernel knows of a client: its address; and how a connection is cut so that it can tell."""

import socket
import struct
from typing import Any, Final

from zerogate.http.heads import UNIX_PEER

_RESET: Final = struct.pack("ii", 1, 0)
_LINE: Final = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 15), (socket.TCP_KEEPCNT, 4))
"""Seconds of silence, seconds between questions, questions without an answer."""


def address(transport: Any) -> bytes:
    """The client's address as text; a word for all that came through a Unix socket."""
    peer = transport.get_extra_info("peername")
    return peer[0].encode() if isinstance(peer, tuple) else UNIX_PEER


def watch_line(transport: Any) -> None:
    """Let the kernel ask whether the peer is still there: a WebSocket may be silent for hours, and one whose client
    has vanished without a word (a laptop that was closed) would keep its replica for ever. Gone after two minutes."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _LINE:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


def reset(transport: Any) -> None:
    """Close with a TCP reset; uvloop's `abort` alone sends an ordinary end."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()
