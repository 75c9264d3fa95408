"""Who listens on a port, with real sockets of this process and of a child."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from zerogate.local import listening
from zerogate.local.listening import is_listening, ports_of, stranger, who_listens
from zerogate.local.processes import Table, read_table

NEVER = 1 << 60
"""Everybody is older."""


@contextmanager
def listener(host: str = "127.0.0.1") -> Iterator[int]:
    """A port on which this process listens."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as sock:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind((host, 0))
        sock.listen()
        yield int(sock.getsockname()[1])


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::", "::ffff:127.0.0.1", "::ffff:0.0.0.0"])
def test_a_listener_is_seen_on_every_address_that_takes_loopback_connections(host: str) -> None:
    with listener(host) as port:
        assert is_listening(os.getpid(), port)
        assert stranger(port, [os.getpid()], read_table(), since_ticks=NEVER) is None
    assert not is_listening(os.getpid(), port)


def test_who_has_a_port_is_named() -> None:
    with listener() as port:
        assert f"(pid {os.getpid()})." in who_listens(port)
    assert who_listens(port) == ""


def test_all_ports_of_a_process_are_seen_and_nobody_elses() -> None:
    with listener() as first, listener("0.0.0.0") as second:
        assert ports_of([os.getpid()]) == sorted({*ports_of([os.getpid()]), first, second})
        assert ports_of([1 << 22]) == []


def test_a_connection_on_the_port_is_no_listener() -> None:
    with listener() as port, socket.create_connection(("127.0.0.1", port)) as client:
        assert not is_listening(os.getpid(), client.getsockname()[1])


def test_nobody_is_no_stranger() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert stranger(bound.getsockname()[1], [], Table([]), since_ticks=NEVER) is None


@pytest.mark.parametrize(
    ("since_ticks", "for_others", "is_thief"),
    [(NEVER, False, True), (0, False, False), (NEVER, True, False)],
    ids=["older than the replica", "younger: it may have been started by it", "it listens for others by trade"],
)
def test_only_a_listener_that_cannot_be_the_replicas_is_a_thief(
    monkeypatch: pytest.MonkeyPatch, since_ticks: int, for_others: bool, is_thief: bool
) -> None:
    with open("/proc/self/comm") as file:
        me = file.read().strip()
    if for_others:
        monkeypatch.setattr(listening, "FOR_OTHERS", frozenset({me}))
    with listener() as port:
        found = stranger(port, [1], read_table(), since_ticks=since_ticks)
    assert found is not None
    assert (found.pid, found.name, found.is_thief) == (os.getpid(), me, is_thief)
    assert str(found) == f"{me} (pid {os.getpid()})"


def test_one_that_cannot_be_seen_is_no_thief() -> None:
    with listener() as port:
        found = stranger(port, [], Table([]), since_ticks=NEVER)
    assert found is not None
    assert (found.pid, found.is_thief, str(found)) == (None, False, "another user's process")


def test_a_descendant_that_listens_is_the_replica() -> None:
    script = "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); input()"
    command = [sys.executable, "-S", "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        port = int(child.stdout.readline())
        assert not is_listening(os.getpid(), port)
        assert stranger(port, [os.getpid(), child.pid], read_table(), since_ticks=NEVER) is None
        child.communicate("\n")
