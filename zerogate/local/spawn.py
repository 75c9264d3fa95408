"""Starting a process without holding up the loop.

`subprocess` keeps the interpreter's lock from fork to exec, and with vfork the child must be scheduled in between:
with a hundred model servers starting on two cores that held the loop for 22 ms each time (p50; 116 ms at worst). The
C library's `posix_spawn`, called through ctypes, releases the lock: in eight threads the same hundred were spawned
within 0.6 s while the loop never waited for more than 17 ms. It also says exactly which step failed. No Python runs
between fork and exec, so threads are no danger.

Every call here blocks: call it in a thread.
"""

import ctypes
import errno
import os
import resource
import shutil
import signal
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from zerogate.errors import MachineError, ZerogateError

_SETSIGDEF: Final = 0x04
_SETSIGMASK: Final = 0x08
_SETSID: Final = 0x80
_OPAQUE_BYTES: Final = 1024
"""More than posix_spawnattr_t (336), posix_spawn_file_actions_t (80) and sigset_t (128) of glibc and musl."""

_FIRST_PRIVATE_FD: Final = 3


class SpawnError(ZerogateError):
    """The process could not be started. `str` is a sentence or two that say what to do."""


def spawn(command: Sequence[str], *, env: Mapping[str, str], cwd: Path | None, output_fd: int) -> int:
    """Start `command` in a session and process group of its own; its pid. Raises SpawnError.

    stdin is /dev/null, stdout and stderr are `output_fd`; nothing else is inherited. A program name without a slash is
    looked up in `env`'s PATH. Signals that Python ignores have their default action.
    """
    if cwd is not None and not cwd.is_dir():
        raise SpawnError(f"The working directory {cwd} does not exist or is not a directory. Create it or change cwd.")
    program = _find(command[0], env)
    command, program = _in_directory(command, program, cwd)
    code, pid = _posix_spawn(program, command, env, cwd, output_fd)
    if code:
        raise SpawnError(_in_words(code, command[0]))
    return pid


def _find(name: str, env: Mapping[str, str]) -> str:
    if "/" in name:
        return name
    path = env.get("PATH", os.defpath)
    program = shutil.which(name, path=path)
    if program is None:
        raise SpawnError(f"The command {name} was not found in PATH ({path}). Install it or write its full path.")
    return program


def _in_directory(command: Sequence[str], program: str, cwd: Path | None) -> tuple[Sequence[str], str]:
    """C libraries of 2018 (glibc before 2.29) cannot change the directory while spawning: a shell does it for them."""
    if cwd is None or hasattr(_libc(), "posix_spawn_file_actions_addchdir_np"):
        return command, program
    script = 'cd "$1" && shift && exec "$@"'
    return ["/bin/sh", "-c", script, "sh", str(cwd), program, *command[1:]], "/bin/sh"


def _posix_spawn(
    program: str, command: Sequence[str], env: Mapping[str, str], cwd: Path | None, output_fd: int
) -> tuple[int, int]:
    """(0, pid) or (errno, 0)."""
    libc = _libc()
    attributes, actions, signals = (ctypes.create_string_buffer(_OPAQUE_BYTES) for _ in range(3))
    pid = ctypes.c_int()
    libc.posix_spawnattr_init(attributes)
    libc.posix_spawn_file_actions_init(actions)
    try:
        libc.sigemptyset(signals)
        libc.posix_spawnattr_setsigmask(attributes, signals)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            libc.sigaddset(signals, int(number))
        libc.posix_spawnattr_setsigdefault(attributes, signals)
        libc.posix_spawnattr_setflags(attributes, ctypes.c_short(_SETSID | _SETSIGDEF | _SETSIGMASK))
        libc.posix_spawn_file_actions_addopen(actions, 0, os.devnull.encode(), os.O_RDONLY, 0)
        libc.posix_spawn_file_actions_adddup2(actions, output_fd, 1)
        libc.posix_spawn_file_actions_adddup2(actions, output_fd, 2)
        if hasattr(libc, "posix_spawn_file_actions_addclosefrom_np"):
            libc.posix_spawn_file_actions_addclosefrom_np(actions, _FIRST_PRIVATE_FD)
        if cwd is not None and hasattr(libc, "posix_spawn_file_actions_addchdir_np"):
            libc.posix_spawn_file_actions_addchdir_np(actions, os.fsencode(cwd))
        words = _strings(command)
        variables = _strings([f"{name}={value}" for name, value in env.items()])
        code = libc.posix_spawn(ctypes.byref(pid), os.fsencode(program), actions, attributes, words, variables)
    finally:
        libc.posix_spawn_file_actions_destroy(actions)
        libc.posix_spawnattr_destroy(attributes)
    return int(code), pid.value


def _strings(texts: Sequence[str]) -> Any:
    return (ctypes.c_char_p * (len(texts) + 1))(*[os.fsencode(text) for text in texts], None)


@cache
def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def become_subreaper() -> None:
    """Orphans below this process become its children instead of init's, so that they can be waited for.

    Linux only, without effect on anything else; it stays for the life of the process.
    """
    set_child_subreaper = 36
    _libc().prctl(set_child_subreaper, 1, 0, 0, 0)


def _in_words(code: int, name: str) -> str:
    match code:
        case errno.ENOENT if Path(name).exists():
            return f"{name} could not be started: the interpreter that its first line names does not exist."
        case errno.ENOENT | errno.ENOTDIR:
            return f"The command {name} does not exist. Install it or correct the path."
        case errno.EACCES | errno.EPERM:
            return f"The command {name} may not be executed by this user. Check its permissions (chmod +x)."
        case errno.ENOEXEC:
            return f"{name} is not a program for this machine. A script needs a first line such as #!/bin/sh."
        case errno.E2BIG:
            return f"{name} could not be started: its arguments and environment are too long for the kernel."
        case _:
            return out_of(code) or f"{name} could not be started: {os.strerror(code)}."


def out_of(code: int) -> str | None:
    """What ran out, and what to do, where `code` says that something did."""
    match code:
        case errno.EMFILE:
            limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            return f"zerogate has as many open files as it may ({limit}). Raise the limit (ulimit -n) and restart it."
        case errno.ENFILE:
            return "The machine has as many open files as it may. Raise fs.file-max or stop what holds them."
        case errno.EAGAIN:
            return "No further process may be started. Raise the limit of processes (ulimit -u, or the pids cgroup)."
        case errno.ENOMEM:
            return "There is no memory left to start a process."
        case _:
            return None


def check_kernel() -> None:
    """Raises MachineError where child processes cannot be watched."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (OSError, AttributeError) as error:
        raise MachineError(
            "Child processes cannot be watched: this kernel has no pidfd. zerogate up needs Linux 5.4 or newer."
        ) from error
