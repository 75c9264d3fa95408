"""The open load."""

import contextlib
import socket
import threading

import pytest

from bench.peers.contestants import UnavailableError
from bench.peers.paced import CONNECTIONS, pace

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nhello world\n"


class Server:
    """Answers each connection in a thread of its own; all of them stand still for a while in the middle."""

    def __init__(self, answer: bytes, pause_s: float = 0.0) -> None:
        self._answer, self._pause_s = answer, pause_s
        self._asked = 0
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=CONNECTIONS)
        self.port = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        for _ in range(CONNECTIONS):
            sock, _ = self._listener.accept()
            self._threads.append(threading.Thread(target=self._serve, args=(sock,)))
            self._threads[-1].start()
        self._listener.close()

    def _serve(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(ConnectionError):
            while sock.recv(4096):
                with self._lock:
                    self._asked += 1
                    if self._asked == 200:
                        threading.Event().wait(self._pause_s)
                sock.sendall(self._answer)

    def end(self) -> None:
        for thread in self._threads:
            thread.join(5)


def test_requests_that_were_due_while_the_server_stood_still_count_as_late() -> None:
    server = Server(ANSWER, pause_s=0.3)
    latency = pace(server.port, 400, 1.0)
    server.end()
    # a closed load would have one late answer for each connection, this one has all that were due in that time
    assert latency.p99_ms > 200
    assert latency.p50_ms < 200


def test_an_answer_that_is_no_success_ends_the_load() -> None:
    server = Server(ANSWER.replace(b"200 OK", b"503 No"))
    with pytest.raises(UnavailableError, match="503"):
        pace(server.port, 100, 0.2)
    server.end()
