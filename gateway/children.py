"""Forking, and the parent's end of each child: its pidfd, and a socket pair with messages.

Forks are safe here because the process that forks never has a loop or a thread (`gateway.parent`). Nothing waits:
descriptors are polled by the parent.
"""

import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from gateway.messages import Frames, FromParent, ToParent, frame, read_to_parent

TAKEN_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)
"""What the parent acts on. Children hear from the parent, and of these from SIGTERM only: a terminal sends Ctrl-C to
all of them."""
_MOST_UNSENT_BYTES: Final = 16 * 1024 * 1024
"""Of a child that does not read: it hangs, and is ended."""
_READ_BYTES: Final = 256 * 1024


class Child:
    """One forked process, until `close`."""

    def __init__(self, number: int, pid: int, channel: socket.socket) -> None:
        self.number = number
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)
        self.channel = channel
        self._frames = Frames()
        self._unsent = bytearray()
        self.is_mute = False
        """It has closed its end and says no more."""
        channel.setblocking(False)

    @property
    def has_unsent(self) -> bool:
        """Whether it should be polled for writing."""
        return bool(self._unsent)

    def say(self, message: FromParent) -> None:
        """Tell it, as soon as it reads."""
        self._unsent += frame(message)
        self.write()
        if len(self._unsent) > _MOST_UNSENT_BYTES:
            self.kill()

    def write(self) -> None:
        """Write what it takes now."""
        try:
            while self._unsent:
                del self._unsent[: self.channel.send(self._unsent)]
        except BlockingIOError:
            return
        except OSError:
            self._unsent.clear()  # it is gone: its pidfd tells

    def read(self) -> list[ToParent]:
        """What it has said. Raises MessageError."""
        messages: list[ToParent] = []
        try:
            while data := self.channel.recv(_READ_BYTES):
                messages += map(read_to_parent, self._frames.feed(data))
            self.is_mute = True
        except BlockingIOError:
            pass
        except OSError:
            self.is_mute = True
        return messages

    def kill(self) -> None:
        """End it at once."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def reap(self) -> str:
        """How it ended, once its pidfd says that it has."""
        _, status = os.waitpid(self.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"

    def close(self) -> None:
        """Let go of the descriptors."""
        os.close(self.pidfd)
        self.channel.close()


def fork(number: int, in_child: Callable[[socket.socket], int], let_go: Callable[[], None]) -> Child:
    """A child that runs `in_child(its end of the channel)` after `let_go`, and ends with the code that returns."""
    ours, theirs = socket.socketpair()
    # a signal between the fork and the child's own handlers would be written to the parent's descriptor
    before = signal.pthread_sigmask(signal.SIG_BLOCK, TAKEN_SIGNALS)
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        _live(ours, theirs, in_child, let_go)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    theirs.close()
    return Child(number, pid, ours)


def _live(
    ours: socket.socket, theirs: socket.socket, in_child: Callable[[socket.socket], int], let_go: Callable[[], None]
) -> None:
    code = 70
    try:
        signal.set_wakeup_fd(-1)
        for taken in TAKEN_SIGNALS:
            signal.signal(taken, signal.SIG_DFL if taken == signal.SIGTERM else signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, TAKEN_SIGNALS)
        ours.close()
        let_go()
        theirs.setblocking(False)
        code = in_child(theirs)
    except BaseException:  # noqa: BLE001 - nothing may come back into the parent's code
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(code)
