"""Who listens on a port of this machine, as /proc shows it: the replica that was given it, or somebody else.

A port is free when it is chosen and taken seconds or minutes later; whoever comes in between answers in the replica's
place. Only what is certain counts: a listener that cannot be seen (another user's), none at all (a packet filter
forwards the port) or one that listens for others by trade may well be the replica, in a container.
Everything here blocks: called in the thread of `zerogate.local.processes.Scanner`.
"""

import os
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from zerogate.local.processes import Table, read_table

FOR_OTHERS: Final = frozenset({"containerd", "dockerd", "ssh", "systemd"})
"""Programs older than the replica that open a port on its command's behalf: `docker run -p`, `ssh -L` over a master
connection, a socket unit. What they start for it (docker-proxy, conmon) is younger than the replica."""

_LISTEN: Final = "0A"
_LOOPBACK: Final = frozenset(
    {"0100007F", "00000000", "0" * 32, "0000000000000000FFFF00000100007F", "0000000000000000FFFF000000000000"}
)
"""Local addresses, as the kernel prints them, on which a connection to 127.0.0.1 arrives."""


class Stranger(msgspec.Struct, frozen=True, kw_only=True):
    """A listener outside the replica. `pid` is None where it cannot be seen whose it is."""

    pid: int | None
    name: str
    is_thief: bool
    """It certainly does not listen for the replica."""

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid})" if self.pid is not None else "another user's process"


def is_listening(pid: int, port: int) -> bool:
    """Whether that process listens on the port: what is nearly always so, and cheap to see."""
    return not _sockets(pid).isdisjoint(_listeners(port))


def stranger(port: int, members: Iterable[int], table: Table, *, since_ticks: int) -> Stranger | None:
    """Who else listens there; None where nobody does, or one of `members`, the replica's processes.

    `since_ticks`: when the replica was started. A thief is older: who came later may have been started by it.
    """
    inodes = _listeners(port)
    inside = set(members)
    if not inodes or any(not inodes.isdisjoint(_sockets(pid)) for pid in inside):
        return None
    for process in table.by_pid.values():
        if process.pid not in inside and not inodes.isdisjoint(_sockets(process.pid)):
            name = _name(process.pid)
            is_thief = process.start_ticks < since_ticks and name not in FOR_OTHERS
            return Stranger(pid=process.pid, name=name, is_thief=is_thief)
    return Stranger(pid=None, name="", is_thief=False)


def who_listens(port: int) -> str:
    """A sentence that names who has the port; empty where nobody can be seen."""
    found = stranger(port, (), read_table(), since_ticks=0)
    return f" It is {found}." if found is not None else ""


def ports_of(pids: Iterable[int]) -> list[int]:
    """All ports on which those processes listen, wherever on this machine."""
    inodes = set().union(*map(_sockets, pids))
    return sorted({port for _, port, inode in _all_listeners() if inode in inodes})


def _listeners(port: int) -> set[str]:
    """Inodes of the sockets that take connections to that port on 127.0.0.1."""
    return {inode for address, number, inode in _all_listeners() if number == port and address in _LOOPBACK}


def _all_listeners() -> Iterator[tuple[str, int, str]]:
    """Address as the kernel prints it, port, and inode of each listening socket."""
    for path in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(path, encoding="ascii") as lines:
                next(lines)
                for line in lines:
                    _, local, _, state, *_, inode = line.split(maxsplit=10)[:10]
                    if state != _LISTEN:
                        break  # the kernel prints all listeners first; connections may be ten thousands
                    address, _, number = local.partition(":")
                    yield address, int(number, 16), f"socket:[{inode}]"
        except (OSError, StopIteration):
            continue  # no IPv6, or no /proc/net here


def _sockets(pid: int) -> set[str]:
    folder = f"/proc/{pid}/fd"
    found = set()
    try:
        for name in os.listdir(folder):
            try:
                found.add(os.readlink(f"{folder}/{name}"))
            except OSError:
                continue  # closed meanwhile
    except OSError:
        return set()  # ended, or another user's
    return found


def _name(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm") as file:
            return file.read().strip()
    except OSError:
        return "a process"
