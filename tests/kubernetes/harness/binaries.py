"""The programs of a cluster: found in the cache, or built from their published source with the machine's own Go.

`ensure(names)` is what the fixtures call; `python -m tests.kubernetes.harness.binaries [names]` does the same ahead of
time. What is built depends only on the files in `tests/kubernetes/binaries/` and lies in the cache under their digest,
with a checksum: a warm cache needs neither Go nor network. Two builders wait for each other.
"""

import argparse
import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from tests.kubernetes.harness.processes import say

MODULES = Path(__file__).resolve().parents[1] / "binaries"
KUBERNETES = "v1.34.4"
LEAST_GO = (1, 24)
"""What the module files ask for; an older Go cannot read their `tool` lines."""


class UnavailableError(Exception):
    """This machine cannot have something: why, and what to do.

    `is_mendable` where whoever prepares the machine can do it by a command, so that its absence is a fault in CI.
    """

    def __init__(self, why: str, *, is_mendable: bool) -> None:
        super().__init__(why)
        self.is_mendable = is_mendable


class Program(msgspec.Struct, frozen=True):
    """One program: the folder of the module that pins it, its package, and what its build says about its version."""

    module: str
    package: str
    stamp: str = ""
    is_rare: bool = False
    """Built only where it is asked for by name: nothing that runs before each merge needs it."""


def _of_kubernetes(name: str) -> Program:
    # Clients read the version, and a server without one says v0.0.0.
    return Program(
        "kubernetes", f"k8s.io/kubernetes/cmd/{name}", f"k8s.io/component-base/version.gitVersion={KUBERNETES}"
    )


PROGRAMS = {
    "etcd": Program("kubernetes", "go.etcd.io/etcd/server/v3"),
    **{
        name: _of_kubernetes(name)
        for name in ("kube-apiserver", "kubectl", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")
    },
    "pause": Program("pause", "."),
    "coredns": Program("coredns", "."),
    "kwok": Program("kwok", "sigs.k8s.io/kwok/cmd/kwok"),
    "helm": Program("helm", "helm.sh/helm/v3/cmd/helm", "helm.sh/helm/v3/internal/version.version=v3.22.0"),
    **{
        name: Program("certmanager", f"github.com/cert-manager/cert-manager/cmd/{folder}", is_rare=True)
        for name, folder in (("cert-manager", "controller"), ("cainjector", "cainjector"))
    },
}
"""In the order in which they are built: what most tests need comes first."""


def cache() -> Path:
    """The folder of everything that is built or fetched for clusters; outside the tree and shared by clones."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zerogate" / "kubernetes"


def ensure(names: Sequence[str], *, idle: bool = False) -> dict[str, Path]:
    """Paths of programs by name, built first where they are not in the cache.

    `idle` builds with what the machine has to spare. Raises UnavailableError with the reason.
    """
    found = {name: folder_of(name) / name for name in names}
    if all(_is_whole(path) for path in found.values()):
        return found
    with alone():
        missing = [name for name in PROGRAMS if name in found and not _is_whole(found[name])]
        go = find_go() if missing else ""
        for number, name in enumerate(missing, 1):
            say(f"building {name} ({number} of {len(missing)}); without Go's own cache this takes minutes")
            began = time.monotonic()
            _build(go, PROGRAMS[name], found[name], idle=idle)
            size = found[name].stat().st_size / 2**20
            say(f"built {name} in {time.monotonic() - began:.0f} s, {size:.0f} MiB, in {found[name].parent}")
    return found


def is_ready(names: Sequence[str]) -> bool:
    """Whether all of them are in the cache."""
    return all(_is_whole(folder_of(name) / name) for name in names)


def folder_of(name: str) -> Path:
    """Where a program lies: a folder for each set of sources, build stamp and kind of machine."""
    program = PROGRAMS[name]
    digest = hashlib.sha256(f"{program.stamp} {platform.system()} {platform.machine()}".encode())
    for file in sorted((MODULES / program.module).iterdir()):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return cache() / f"{program.module}-{digest.hexdigest()[:12]}"


def _is_whole(path: Path) -> bool:
    """Whether a program is there; its checksum is compared at the first use in this process."""
    if path in _compared:
        return True
    written = path.with_name(f"{path.name}.sha256")
    if not path.exists() or not written.exists():
        return False
    with path.open("rb") as file:
        same = hashlib.file_digest(file, "sha256").hexdigest() == written.read_text().split()[0]
    if same:
        _compared.add(path)
    return same


_compared: set[Path] = set()


def _build(go: str, program: Program, target: Path, *, idle: bool) -> None:
    flags = f"-s -w{f' -X {program.stamp}' if program.stamp else ''}"
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f"{target.name}.new")
    done = subprocess.run(
        [go, "build", "-trimpath", "-ldflags", flags, "-o", str(fresh), program.package],
        cwd=MODULES / program.module,
        env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false", "GOWORK": "off"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=_idle if idle else None,
    )
    if done.returncode:
        raise UnavailableError(
            f"{target.name} could not be built with {go}: {_last(done.stdout)}\n"
            "Its source comes through Go's module proxy: is the network up, and `go env GOPROXY` right?",
            is_mendable=True,
        )
    with fresh.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    target.with_name(f"{target.name}.sha256").write_text(f"{digest}  {target.name}\n")
    fresh.rename(target)
    _compared.add(target)


def _idle() -> None:
    """Run only when nothing else wants the processor."""
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def _last(text: str) -> str:
    return " / ".join(text.strip().splitlines()[-3:])


@contextmanager
def alone() -> Iterator[None]:
    """No other process builds or fetches meanwhile."""
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / "building").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say("waiting for another process that builds the same programs")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def find_go() -> str:
    """The Go to build with."""
    needed = ".".join(map(str, LEAST_GO))
    advice = f"Install Go {needed} or newer and put it on PATH."
    if platform.system() != "Linux":
        raise UnavailableError(
            f"clusters of the tests run on Linux only, and this is {platform.system()}", is_mendable=False
        )
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if go is None:
        raise UnavailableError(
            f"Kubernetes is built from source with Go, and `go` is not on PATH. {advice}", is_mendable=False
        )
    said = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True).stdout
    match = re.match(r"go(\d+)\.(\d+)", said)
    if match is None or (int(match[1]), int(match[2])) < LEAST_GO:
        raise UnavailableError(f"{go} is {said.strip() or 'of an unknown version'}. {advice}", is_mendable=False)
    return go


def main() -> None:
    """Build what is missing and say where it is."""
    parser = argparse.ArgumentParser(prog="python -m tests.kubernetes.harness.binaries", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="name", help=f"of {', '.join(PROGRAMS)}; the usual ones where none is named"
    )
    parser.add_argument("--idle", action="store_true", help="take only the processor time that nothing else wants")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.names if name not in PROGRAMS]:
        sys.exit(f"no such program: {', '.join(unknown)}; there are {', '.join(PROGRAMS)}")
    usual = [name for name, program in PROGRAMS.items() if not program.is_rare]
    try:
        found = ensure(arguments.names or usual, idle=arguments.idle)
    except UnavailableError as reason:
        sys.exit(f"kubernetes: {reason}")
    for path in found.values():
        sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
