"""What only the kernel knows of a client that is not read, and how a connection is cut so that its client can tell."""

import socket
import struct
from typing import Any, Final

_RESET: Final = struct.pack("ii", 1, 0)
_CLOSED: Final = 7  # linux/tcp_states.h
_CLOSE_WAIT: Final = 8


def is_gone(transport: Any) -> bool:
    """Whether the client has closed: a connection that is not read shows no end of file."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] in (_CLOSE_WAIT, _CLOSED)


def reset(transport: Any) -> None:
    """Close with a TCP reset; uvloop's `abort` alone sends an ordinary end."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()
