"""`zerogate doctor`: what is wrong with this machine or file, before it is found out the hard way.

Each check is a function that returns findings; none changes anything, and each is bounded in time.
"""

import os
import resource
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.client import Admin, CommandError
from cli.exits import ExitCode
from zerogate.clock import wall
from zerogate.errors import DefinitionErrors, MachineError, PortTakenError
from zerogate.home import home_folder
from zerogate.http.listener import bind
from zerogate.local.listening import who_listens
from zerogate.quantities import format_size
from zerogate.runtime.interface import Address

DEFAULT_FILE: Final = Path("zerogate.yaml")
_FEWEST_FILES: Final = 1024
"""Two sockets per request: below that, a held crowd of 512 does not fit."""
_ENOUGH_FILES: Final = 20_480
"""10,000 held requests and their replicas."""
_LEAST_DISK_BYTES: Final = 64 << 20
_ENOUGH_DISK_BYTES: Final = 1 << 30


class Level(StrEnum):
    OK = "ok"
    NOTE = "note"
    """Works, with less."""
    WRONG = "wrong"


class Finding(msgspec.Struct, frozen=True):
    """One line of the answer: how bad, about what, and a sentence that says what to do."""

    level: Level
    about: str
    says: str


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a box would listen and keep its state."""

    listen: Address = Address("127.0.0.1", 8080)
    admin: Address = Address("127.0.0.1", 8081)
    listen_tls: Address | None = None
    state_dir: Path | None
    """None where nobody knows one."""


def doctor(file: Path | None, admin: Admin, console: Console, environ: Mapping[str, str] = os.environ) -> ExitCode:
    """Print every finding; FAILED where something is wrong."""
    return show_findings(list(_findings(file, admin, environ)), console)


def show_findings(findings: Sequence[Finding], console: Console) -> ExitCode:
    """Print them; FAILED where something is wrong."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column()
    table.add_column(overflow="fold")
    styles = {Level.OK: "green", Level.NOTE: "yellow", Level.WRONG: "red"}
    for finding in findings:
        style = styles[finding.level]
        table.add_row(f"[{style}]{finding.level}[/{style}]", finding.about, escape(finding.says))
    console.print(table)
    return ExitCode.FAILED if any(finding.level is Level.WRONG for finding in findings) else ExitCode.OK


def _findings(file: Path | None, admin: Admin, environ: Mapping[str, str]) -> Iterator[Finding]:
    yield python(sys.platform, sys.version_info[:3])
    yield open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    yield from processes(Path("/proc"))
    place, about_file = file_and_place(file, environ)
    yield about_file
    if about_file.level is Level.OK:
        yield from certificates(file or DEFAULT_FILE, environ)
    yield from addresses(place, admin)
    yield from state_folder(place.state_dir)
    yield gpu()


def python(platform: str, version: tuple[int, ...]) -> Finding:
    """The interpreter, and the system below it."""
    shown = ".".join(map(str, version))
    if platform != "linux":
        return Finding(Level.WRONG, "system", f"{platform} with Python {shown}; model servers are run on Linux only.")
    return Finding(Level.OK, "system", f"Linux with Python {shown}")


def open_files(limit: int) -> Finding:
    """How many sockets zerogate and its children may have: the hard limit, which `up` makes its own."""
    if limit in (-1, resource.RLIM_INFINITY) or limit >= _ENOUGH_FILES:
        return Finding(Level.OK, "open files", "no limit" if limit < 0 else f"{limit} at once")
    raises = "`ulimit -Hn 65536` (or LimitNOFILE) before `zerogate up` raises it."
    advice = f"only {limit} at once, two for each request; {raises}"
    return Finding(Level.WRONG if limit < _FEWEST_FILES else Level.NOTE, "open files", advice)


def processes(proc: Path) -> Iterator[Finding]:
    """Whether children can be watched, and found again after a crash."""
    try:
        (proc / "self" / "environ").read_bytes()
        yield Finding(Level.OK, "/proc", "children of an earlier zerogate can be found")
    except OSError as error:
        yield Finding(Level.WRONG, "/proc", f"cannot be read ({error.strerror}); mount it, or orphans stay unseen.")
    try:
        os.close(os.pidfd_open(os.getpid()))
        yield Finding(Level.OK, "pidfd", "children are watched without polling")
    except (OSError, AttributeError):
        yield Finding(Level.WRONG, "pidfd", "this kernel or sandbox refuses pidfd_open; Linux 5.3 or newer has it.")


def file_and_place(file: Path | None, environ: Mapping[str, str]) -> tuple[Place, Finding]:
    """Whether the file is right, and where it says that zerogate is."""
    place = Place(state_dir=usual_state_folder(environ))
    path = file or DEFAULT_FILE
    if file is None and not path.exists():
        return place, Finding(Level.NOTE, "file", "no zerogate.yaml here; give its path to have it checked.")
    from cli.runnable import read_runnable

    try:
        box = read_runnable(path, environ)
    except DefinitionErrors as errors:
        return place, Finding(Level.WRONG, "file", str(errors))
    place = Place(
        listen=box.listen,
        admin=box.admin,
        listen_tls=box.listen_tls,
        state_dir=Path(box.state_dir),
    )
    count = len(box.services)
    return place, Finding(Level.OK, "file", f"{path} is right, {count} service{'' if count == 1 else 's'}")


def usual_state_folder(environ: Mapping[str, str]) -> Path | None:
    """Where state is kept if no file says otherwise; None for a user without a home."""
    if base := environ.get("XDG_STATE_HOME"):
        return Path(base) / "zerogate"
    try:
        return home_folder(environ) / ".local" / "state" / "zerogate"
    except MachineError:
        return None


def certificates(file: Path, environ: Mapping[str, str]) -> Iterator[Finding]:
    """The certificates of a right file's TLS listener: whom they name, and how long they last."""
    from cli.runnable import read_runnable
    from cli.tls_files import load_tls
    from zerogate.http.certificate_files import shown, warnings

    loaded = load_tls(read_runnable(file, environ))
    now_at = wall()
    wrong = list(warnings(loaded.server, now_at))
    for certificate in loaded.server.certificates if loaded.server is not None else ():
        is_wrong = any(certificate.pair.certificate in warning for warning in wrong)
        if not is_wrong:
            yield Finding(Level.OK, "certificate", shown(certificate, now_at))
    for warning in wrong:
        level = Level.WRONG if "expired" in warning else Level.NOTE
        yield Finding(level, "certificate", f"{warning[0].upper()}{warning[1:]}")


def addresses(place: Place, admin: Admin) -> Iterator[Finding]:
    """Whether a zerogate runs already; if none does, whether its two addresses are free."""
    try:
        health = admin.health()
    except CommandError:
        yield Finding(Level.OK, "running", f"no zerogate answers at {admin.url}")
        yield _free("listen", place.listen)
        if place.listen_tls is not None:
            yield _free("listen-tls", place.listen_tls)
        yield _free("admin", place.admin)
        return
    level = Level.OK if health.healthy else Level.WRONG
    yield Finding(level, "running", f"zerogate {health.version} (pid {health.pid}) takes traffic on {health.traffic}")
    for service in admin.services():
        yield from (Finding(Level.NOTE, service.name, notice) for notice in service.notices)


def _free(key: str, address: Address) -> Finding:
    """Whether the address that the file gives under `key` can be had: a port is taken for a moment."""
    about = {"listen": "traffic port", "listen-tls": "TLS port", "admin": "admin port"}[key]
    if address.path:
        folder = Path(address.path).parent
        if folder.is_dir() and os.access(folder, os.W_OK | os.X_OK):
            return Finding(Level.OK, about, f"{address} can be made")
        return Finding(Level.WRONG, about, f"{address}: {folder} is no folder that can be written. Make it so.")
    try:
        sock = bind(address, what=key)
    except PortTakenError as error:
        return Finding(Level.WRONG, about, f"{error}{who_listens(error.port)}")
    except MachineError as error:
        return Finding(Level.WRONG, about, str(error))
    sock.close()
    return Finding(Level.OK, about, f"{address} is free")


def state_folder(folder: Path | None) -> Iterator[Finding]:
    """Whether logs and pins can be written, and how many."""
    if folder is None:
        says = "this user has no home folder, and HOME is not set; set it, or choose a state-dir: in the file."
        yield Finding(Level.WRONG, "state folder", says)
        return
    existing = next(parent for parent in (folder, *folder.absolute().parents) if os.path.exists(parent))
    if not (existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)):
        says = f"{folder} cannot be written; make {existing} writable, or choose another with state-dir: in the file."
        yield Finding(Level.WRONG, "state folder", says)
        return
    free = shutil.disk_usage(existing).free
    says = f"{folder}, {format_size(free)} free"
    if free < _LEAST_DISK_BYTES:
        yield Finding(Level.WRONG, "state folder", f"{says}: too little for logs; make room.")
    elif free < _ENOUGH_DISK_BYTES:
        yield Finding(Level.NOTE, "state folder", f"{says}: little for logs.")
    else:
        yield Finding(Level.OK, "state folder", says)


def gpu() -> Finding:
    """How many there are, where that can be told. Nothing in this version depends on it."""
    without = "nothing in this version depends on it"
    try:
        import pynvml
    except ImportError:
        return Finding(Level.OK, "GPU", f"not counted, since nvidia-ml-py is not installed; {without}.")
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return Finding(Level.OK, "GPU", f"no NVIDIA driver answers ({error}); {without}.")
    try:
        return Finding(Level.OK, "GPU", f"{pynvml.nvmlDeviceGetCount()} devices")
    finally:
        pynvml.nvmlShutdown()
