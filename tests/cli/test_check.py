import io
from pathlib import Path

import pytest
from rich.console import Console

from cli.check import EXIT_OK, EXIT_WRONG, run_check


def check(tmp_path: Path, text: str, path: str = "/usr/bin:/bin") -> tuple[int, str, str]:
    file = tmp_path / "z.yaml"
    file.write_text(text)
    out, err = (Console(file=io.StringIO(), width=200, color_system=None) for _ in range(2))
    code = run_check(file, out=out, err=err, environ={"PATH": path, "HOME": str(tmp_path)})
    assert isinstance(out.file, io.StringIO)
    assert isinstance(err.file, io.StringIO)
    return code, out.file.getvalue(), err.file.getvalue()


def test_what_would_run_is_told(tmp_path: Path) -> None:
    text = """\
services:
  chat:
    command: sh -c 'sleep [1]'
    models: [gemma, small]
    policy: {max-replicas: 3, idle-timeout: 90s, schedule: 'Mon-Fri 08:00-18:00 UTC = 1'}
  whisper: {endpoint: "http://127.0.0.1:9005", path-prefix: /asr}
"""
    code, out, err = check(tmp_path, text)
    assert (code, err) == (EXIT_OK, "")
    for said in (
        "2 services",
        "http://127.0.0.1:8080",
        "http://127.0.0.1:8081",
        "sh -c 'sleep [1]'",
        "0 to 3",
        "1m30s",
    ):
        assert said in out
    for said in ("gemma, small", "Mon-Fri 08:00-18:00 UTC = 1", "elsewhere, http://127.0.0.1:9005", "/asr…"):
        assert said in out


def test_a_command_that_is_not_told_its_port_is_noted(tmp_path: Path) -> None:
    code, out, _ = check(tmp_path, "services: {a: {command: sh -x}, b: {command: 'sh {port}', models: m}}")
    assert code == EXIT_OK
    assert "note: a: neither its command nor its env has {port}" in out
    assert "note: b" not in out


def test_each_mistake_is_one_line_on_the_error_stream(tmp_path: Path) -> None:
    code, out, err = check(tmp_path, "services:\n  a: {command: sh, modls: x}\n  b: {}\n")
    assert (code, out) == (EXIT_WRONG, "")
    assert [
        line.startswith(f"{tmp_path}/z.yaml:{number}: ") for number, line in zip((2, 3), err.splitlines(), strict=True)
    ]


def test_a_program_that_is_not_found_is_a_mistake_of_its_line(tmp_path: Path) -> None:
    code, _, err = check(tmp_path, "services:\n  a:\n    models: a\n    command: no-such-program-x\n")
    assert code == EXIT_WRONG
    assert f'{tmp_path}/z.yaml:4: services.a.command: the program "no-such-program-x" is not in PATH' in err


def test_programs_are_looked_for_in_the_path_of_the_service(tmp_path: Path) -> None:
    program = tmp_path / "serve-x"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert check(tmp_path, "services: {a: {command: serve-x}}")[0] == EXIT_WRONG
    assert check(tmp_path, f"services: {{a: {{command: serve-x, env: {{PATH: {tmp_path}}}}}}}")[0] == EXIT_OK
    assert check(tmp_path, "services: {a: {command: serve-x}}", path=str(tmp_path))[0] == EXIT_OK


def test_a_relative_program_is_seen_from_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    program = folder / "serve"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o644)
    assert "there is no program" in check(tmp_path, "services: {a: {command: ./serve}}")[2]
    assert "is not executable" in check(tmp_path, "services: {a: {command: ./serve, cwd: models}}")[2]
    program.chmod(0o755)
    assert check(tmp_path, "services: {a: {command: ./serve, cwd: models}}")[0] == EXIT_OK


def test_a_folder_that_does_not_exist_is_told_with_its_line(tmp_path: Path) -> None:
    _, _, err = check(tmp_path, "services:\n  a:\n    command: sh\n    cwd: nowhere\n")
    assert f'z.yaml:4: services.a.cwd: "{tmp_path}/nowhere" is not a folder' in err


def test_tracing_without_its_packages_is_a_mistake_of_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "services: {a: {endpoint: 'http://127.0.0.1:9005'}}\ntrace-to: http://127.0.0.1:4318\n"
    assert check(tmp_path, text)[0] == EXIT_OK
    monkeypatch.setattr("zerogate.http.tracing.find_spec", lambda name: None)
    code, _, err = check(tmp_path, text)
    assert code == EXIT_WRONG
    assert f"{tmp_path}/z.yaml:2: trace-to: needs packages that are not installed. Install zerogate[otel]" in err


def test_a_service_without_routes_is_asked_for_by_its_name_unless_it_is_alone(tmp_path: Path) -> None:
    _, out, _ = check(tmp_path, "services: {a: {command: 'sh {port}'}}")
    assert "every request" in out
    _, out, _ = check(tmp_path, "services: {a: {command: 'sh {port}'}, b: {command: 'sh {port}', models: m}}")
    assert "the hosts a and a.localhost" in out
    assert "every request" not in out
