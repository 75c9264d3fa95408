"""`make image`: which builder is taken, and what it is told."""

from pathlib import Path

import pytest

from tools import build_image

IGNORED = f"{build_image.DOCKERFILE}.dockerignore"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def put(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_a_docker_without_its_daemon_is_passed_over(programs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    put(programs, "docker", "exit 1")
    put(programs, "buildah", '[ "$1" = info ] || echo "built: $@"')
    assert build_image.main(["mine:1", "--base", "ours:3.12", "--", "--layers"]) == 0
    built = (
        f"build --file {build_image.DOCKERFILE} --ignorefile {IGNORED} --build-arg BASE=ours:3.12 --tag mine:1 --layers"
    )
    assert f"built: {built} {build_image.ROOT}\n" in capfd.readouterr().out


def test_docker_finds_what_to_leave_out_by_itself(programs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    put(programs, "docker", '[ "$1" = info ] || echo "built: $@"')
    assert build_image.main([]) == 0
    name = f"zerogate:{build_image.version()}"
    assert f"built: build --file {build_image.DOCKERFILE} --tag {name} {build_image.ROOT}\n" in capfd.readouterr().out


def test_without_any_builder_it_says_what_is_missing(programs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert build_image.main([]) == 1
    assert (
        capsys.readouterr().err == "None of docker, podman, buildah works here. Install one; docker needs its daemon.\n"
    )


def test_a_builder_that_is_asked_for_and_not_here_is_said(programs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(programs, "docker", "exit 0")
    assert build_image.main(["--with", "podman"]) == 1
    assert capsys.readouterr().err.startswith("podman is not installed.")


def test_a_docker_whose_daemon_never_answers_is_passed_over(
    programs: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_image, "_ANSWER_S", 0.2)
    put(programs, "docker", "exec /bin/sleep 30")
    put(programs, "buildah", '[ "$1" = info ] || echo "built"')
    assert build_image.main([]) == 0
    assert "built" in capfd.readouterr().out


def test_the_builders_failure_is_ours(programs: Path) -> None:
    put(programs, "podman", '[ "$1" = info ] || exit 7')
    assert build_image.main(["--with", "podman"]) == 7
