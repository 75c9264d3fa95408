"""Free loopback ports for replicas.

A server binds its port seconds or minutes after it was chosen. Until then nothing holds the port, and the kernel may
give it to any outgoing connection: of which a busy gateway makes thousands. So ports are taken from below the range
that the kernel gives out (`ip_local_port_range`), where only a program that was told the very same number can
interfere; only if that leaves no room, the kernel chooses. Invariant: no port is handed out twice before `release`.
"""

import random
import socket
import threading
from pathlib import Path
from typing import Final

from zerogate.errors import MachineError

LOWEST: Final = 20000
"""Below live the well-known ports of databases and development servers."""

RANGE_FILE: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
TRIES: Final = 200


class Ports:
    """Hands out ports; safe to call from several threads."""

    def __init__(self, host: str = "127.0.0.1", *, range_file: Path = RANGE_FILE) -> None:
        self._host = host
        self._held: set[int] = set()
        self._lock = threading.Lock()
        self._candidates = range(LOWEST, _first_ephemeral(range_file))

    def choose(self) -> int:
        """A port that is free now and held by no other replica. Raises MachineError where none is found."""
        with self._lock:
            for attempt in range(TRIES):
                wanted = random.choice(self._candidates) if self._candidates and attempt < TRIES // 2 else 0
                port = self._bind(wanted)
                if port is not None and port not in self._held:
                    self._held.add(port)
                    return port
        raise MachineError(f"No free port was found on {self._host}. Stop what holds them (ss -ltnp shows it).")

    def hold(self, port: int) -> None:
        """An adopted replica has it already."""
        with self._lock:
            self._held.add(port)

    def release(self, port: int) -> None:
        """Its replica is gone."""
        with self._lock:
            self._held.discard(port)

    def _bind(self, port: int) -> int | None:
        """Without SO_REUSEADDR: ports whose last connections still linger are as good as taken."""
        with socket.socket() as sock:
            try:
                sock.bind((self._host, port))
            except OSError:
                return None
            return int(sock.getsockname()[1])


def _first_ephemeral(range_file: Path) -> int:
    try:
        return int(range_file.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 0
