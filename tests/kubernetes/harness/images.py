"""Container images without a registry: archives in OCI layout, written from what this machine has.

`pause` holds a pod's namespaces. `zerogate` has the interpreter that runs the tests, the libraries it is linked to, the
packages that zerogate needs (with the versions of the environment) and zerogate itself from the working tree, with the
stub model server of the tests: `python3 -m queueproxy`, `python3 -m tests.stub_server` run in it, as nobody.
"""

import compileall
import hashlib
import importlib.metadata
import importlib.util
import io
import json
import os
import platform
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[3]
PAUSE = "tests.zerogate.dev/pause:tests"
ZEROGATE = "tests.zerogate.dev/zerogate:tests"
PYTHON = "tests.zerogate.dev/python:tests"

_NOBODY = 65532
_COMPONENTS = ("zerogate", "gateway", "activator", "queueproxy", "autoscaler", "cli")
_NOT_NEEDED = {"site-packages", "test", "tests", "idlelib", "tkinter", "ensurepip", "lib2to3", "turtledemo"}
"""Of the standard library; most of its size."""
_TOOLS = ("sh", "cat", "ls", "sleep", "touch", "kill")
"""For hooks and for people who look into a container."""
_USUAL = (
    "libpthread.so.0", "librt.so.1", "libdl.so.2", "libutil.so.1", "libm.so.6",
    "libgcc_s.so.1", "libstdc++.so.6", "libz.so.1",
)  # fmt: skip
"""Libraries that wheels take for granted (manylinux)."""
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


class File(msgspec.Struct, frozen=True):
    """A file of an image: its path there, and where it comes from on this machine or what is in it."""

    path: str
    source: Path | None = None
    content: bytes = b""
    mode: int = 0o644


class Image(msgspec.Struct, frozen=True):
    """A name, layers from the lowest, and how a container of it starts."""

    name: str
    layers: Sequence[Sequence[File]]
    entrypoint: Sequence[str] = ()
    env: Mapping[str, str] = {}
    folder: str = "/"
    user: int = _NOBODY


def pause(program: Path) -> Image:
    """What holds a pod's namespaces open."""
    return Image(PAUSE, [[File("pause", program, mode=0o755)]], ["/pause"])


def zerogate(extras: Sequence[str] = ("kubernetes",)) -> Image:
    """Everything that runs zerogate; `extras` of its packages, such as `demo` for the real model."""
    name = ZEROGATE if "demo" not in extras else f"{ZEROGATE}-demo"
    env = {
        "PATH": "/usr/local/bin:/bin",
        "PYTHONPATH": "/zerogate:/packages",
        "PYTHONUNBUFFERED": "1",
        "LANG": "C.UTF-8",
        "HOME": "/tmp",
    }
    base, packages = list(_interpreter()), list(_packages(extras))
    layers = [[*base, *_shared_libraries([*base, *packages])], packages, list(_working_tree())]
    return Image(name, layers, env=env, folder="/zerogate")


def python(installer: Path) -> Image:
    """What a Dockerfile begins with: like the images that Python's makers publish it has pip (unpacked from the wheel
    `installer`) and a shell, and nothing of its library is compiled."""
    base = [file for file in _interpreter() if file.source is None or file.source.suffix != ".pyc"]
    packages = Path(sysconfig.get_path("stdlib")).relative_to(sys.base_prefix) / "site-packages"
    with zipfile.ZipFile(installer) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        pip = [File(f"usr/local/{packages}/{name}", content=archive.read(name)) for name in names]
    layers = [[*base, *_shared_libraries(base), *_usual_libraries(), *pip]]
    return Image(PYTHON, layers, env={"PATH": "/usr/local/bin:/bin", "LANG": "C.UTF-8"}, user=0)


def write(image: Image, path: Path) -> None:
    """The archive, as `ctr images import` takes it."""
    with tarfile.open(path, "w") as archive:
        layers = [_add_layer(archive, files, path.with_suffix(".layer")) for files in image.layers]
        config = {
            "architecture": _ARCHITECTURES[platform.machine()],
            "os": "linux",
            "config": {
                "Entrypoint": list(image.entrypoint),
                "Env": [f"{name}={value}" for name, value in image.env.items()],
                "WorkingDir": image.folder,
                "User": f"{image.user}:{image.user}",
            },
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]},
            "history": [{"created_by": "tests"} for _ in layers],  # whoever builds on it counts them
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": _add_json(archive, config, "application/vnd.oci.image.config.v1+json"),
            "layers": layers,
        }
        described = _add_json(archive, manifest, manifest["mediaType"])
        index = {
            "schemaVersion": 2,
            "manifests": [{**described, "annotations": {"io.containerd.image.name": image.name}}],
        }
        _add(archive, "index.json", json.dumps(index).encode())
        _add(archive, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')


def _add_layer(archive: tarfile.TarFile, files: Iterable[File], scratch: Path) -> dict[str, object]:
    with scratch.open("w+b") as raw:
        with tarfile.open(fileobj=raw, mode="w") as layer:
            _fill(layer, files)
        size = raw.tell()
        raw.seek(0)
        digest = hashlib.file_digest(raw, "sha256").hexdigest()
        raw.seek(0)
        about = tarfile.TarInfo(f"blobs/sha256/{digest}")
        about.size = size
        archive.addfile(about, raw)
    scratch.unlink()
    return {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": f"sha256:{digest}", "size": size}


def _fill(layer: tarfile.TarFile, files: Iterable[File]) -> None:
    made: set[str] = set()
    for file in files:
        for parent in reversed(Path(file.path).parents[:-1]):
            if str(parent) not in made:
                about = tarfile.TarInfo(str(parent))
                about.type, about.mode = tarfile.DIRTYPE, 0o1777 if str(parent) == "tmp" else 0o755
                layer.addfile(about)
                made.add(str(parent))
        if file.path in made:
            continue
        made.add(file.path)
        about = tarfile.TarInfo(file.path)
        about.mode = file.mode
        if file.source is None:
            about.size = len(file.content)
            layer.addfile(about, io.BytesIO(file.content))
            continue
        with file.source.open("rb") as source:
            state = os.fstat(source.fileno())
            about.size, about.mtime = state.st_size, int(state.st_mtime)  # compiled modules compare the time
            layer.addfile(about, source)


def _add_json(archive: tarfile.TarFile, content: object, kind: object) -> dict[str, object]:
    raw = json.dumps(content).encode()
    digest = hashlib.sha256(raw).hexdigest()
    _add(archive, f"blobs/sha256/{digest}", raw)
    return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(raw)}


def _add(archive: tarfile.TarFile, path: str, content: bytes) -> None:
    about = tarfile.TarInfo(path)
    about.size = len(content)
    archive.addfile(about, io.BytesIO(content))


def _interpreter() -> Iterator[File]:
    """The interpreter below /usr/local with its standard library, a shell, and who nobody is."""
    program = Path(os.path.realpath(sys.executable))
    library = Path(sysconfig.get_path("stdlib"))
    place = f"usr/local/{library.relative_to(sys.base_prefix)}"
    for name in ("python3", "python"):
        yield File(f"usr/local/bin/{name}", program, mode=0o755)
    for file in _below(library, _NOT_NEEDED):
        yield File(f"{place}/{file.relative_to(library)}", file)
    for name in _TOOLS:
        yield File(f"bin/{name}", Path(os.path.realpath(f"/bin/{name}")), mode=0o755)
    yield File("etc/passwd", content=f"root:x:0:0::/:/bin/sh\nnobody:x:{_NOBODY}:{_NOBODY}::/tmp:/bin/sh\n".encode())
    yield File("etc/group", content=f"root:x:0:\nnobody:x:{_NOBODY}:\n".encode())
    yield File("tmp/.keep")


def _shared_libraries(files: Sequence[File]) -> Iterator[File]:
    """What the dynamic linker finds for programs and modules, in the folder where it looks for libc.

    What packages bring along themselves is found beside them.
    """
    linked = [file.source for file in files if file.source and (file.mode == 0o755 or ".so" in file.source.suffixes)]
    said = subprocess.run(["ldd", *map(str, linked)], capture_output=True, text=True).stdout
    found = {match[1]: Path(match[2]) for match in re.finditer(r"^\s*(\S+) => (/\S+) ", said, re.MULTILINE)}
    usual = found["libc.so.6"].parent
    for name, source in sorted(found.items()):
        if "site-packages" not in source.parts:
            yield File(f"{str(usual).lstrip('/')}/{name}", Path(os.path.realpath(source)), mode=0o755)
    for resolver in sorted(usual.glob("libnss_*.so.2")):  # loaded by name only
        yield File(f"{str(usual).lstrip('/')}/{resolver.name}", Path(os.path.realpath(resolver)), mode=0o755)
    for linker in sorted(set(re.findall(r"^\s*(/lib\S+) \(", said, re.MULTILINE))):
        yield File(linker.lstrip("/"), Path(os.path.realpath(linker)), mode=0o755)


def _usual_libraries() -> Iterator[File]:
    """Those that are on this machine, beside its libc."""
    said = subprocess.run(["ldd", os.path.realpath("/bin/sh")], capture_output=True, text=True, check=True).stdout
    match = re.search(r"libc\.so\.6 => (/\S+) ", said)
    assert match is not None, said
    usual = Path(match[1]).parent
    for name in _USUAL:
        # where /lib is no link to it, some are in /usr/lib
        found = [folder / name for folder in (usual, Path("/usr", *usual.parts[1:])) if (folder / name).exists()]
        if found:
            yield File(f"{str(usual).lstrip('/')}/{name}", Path(os.path.realpath(found[0])), mode=0o755)


def _packages(extras: Sequence[str]) -> Iterator[File]:
    """The files of the packages that the project asks for, and those that they ask for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    for name in sorted(_needed(asked)):
        distribution = importlib.metadata.distribution(name)
        for file in distribution.files or ():
            source = Path(str(distribution.locate_file(file)))
            if ".." in file.parts or file.suffix == ".pyc" or not source.is_file():
                continue
            if file.suffix == ".py":  # uv installs without compiling
                yield from _module(source, f"packages/{file}")
            else:
                yield File(f"packages/{file}", source)


def _module(source: Path, path: str) -> Iterator[File]:
    """A file of Python and what it is compiled to: a container cannot write, so it would be compiled at each start."""
    yield File(path, source)
    compileall.compile_file(source, quiet=2)
    compiled = Path(importlib.util.cache_from_source(str(source)))
    if compiled.exists():
        yield File(f"{Path(path).parent}/__pycache__/{compiled.name}", compiled)


def _needed(asked: Sequence[str]) -> set[str]:
    """Names of all packages behind requirements; those that are for other machines are not among them."""
    found: set[tuple[str, frozenset[str]]] = set()
    open_lines = [(line, frozenset({""})) for line in asked]
    while open_lines:
        line, extras = open_lines.pop()
        requirement = Requirement(line)
        one = (re.sub(r"[-_.]+", "-", requirement.name).lower(), frozenset({"", *requirement.extras}))
        marker = requirement.marker
        if one not in found and (marker is None or any(marker.evaluate({"extra": extra}) for extra in extras)):
            found.add(one)
            open_lines += [(further, one[1]) for further in importlib.metadata.requires(one[0]) or ()]
    return {name for name, _ in found}


def _working_tree() -> Iterator[File]:
    for component in _COMPONENTS:
        compileall.compile_dir(ROOT / component, quiet=2)
        for file in _below(ROOT / component, set()):
            yield File(f"zerogate/{file.relative_to(ROOT)}", file)
    for file in sorted((ROOT / "tests").glob("*.py")):
        yield from _module(file, f"zerogate/tests/{file.name}")
    yield File("usr/local/bin/zerogate", content=b'#!/bin/sh\nexec python3 -m cli "$@"\n', mode=0o755)


def _below(folder: Path, without: set[str]) -> Iterator[Path]:
    for path, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in without and not name.startswith("config-"))
        for name in sorted(files):
            if ".opt-" not in name and not name.startswith("_tkinter"):
                yield Path(path) / name
