"""`zerogate doctor`: each thing that can be wrong is said with what to do about it."""

import os
import socket
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import msgspec
import pytest
from typer.testing import CliRunner

from cli.app import app
from cli.client import Admin
from cli.commands import doctor
from cli.commands.doctor import Finding, Level, Place
from tests.cli.fake_box import CHAT
from zerogate.runtime.interface import Address

GB = 1 << 30


@pytest.mark.parametrize(
    ("limit", "level"), [(256, Level.WRONG), (1024, Level.NOTE), (65_536, Level.OK), (-1, Level.OK)]
)
def test_few_open_files_are_said(limit: int, level: Level) -> None:
    finding = doctor.open_files(limit)
    assert finding.level is level
    assert ("ulimit -Hn" in finding.says) is (level is not Level.OK)


def test_another_system_is_wrong() -> None:
    assert doctor.python("linux", (3, 12, 1)).level is Level.OK
    assert doctor.python("darwin", (3, 12, 1)).level is Level.WRONG


def test_a_hidden_proc_is_said(tmp_path: Path) -> None:
    assert [finding.level for finding in doctor.processes(Path("/proc"))] == [Level.OK, Level.OK]
    assert "orphans" in next(iter(doctor.processes(tmp_path))).says


def test_a_kernel_without_pidfd_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("os.pidfd_open", refuse)
    assert [finding.level for finding in doctor.processes(Path("/proc"))] == [Level.OK, Level.WRONG]


def test_a_taken_port_is_said_with_the_key_that_changes_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as free:
        port, free_port = taken.getsockname()[1], free.getsockname()[1]
        free.close()
        place = Place(listen=Address("127.0.0.1", port), admin=Address("127.0.0.1", free_port), state_dir=tmp_path)
        running, traffic, admin = doctor.addresses(place, Admin(f"http://127.0.0.1:{free_port}"))
    assert (running.level, traffic.level, admin.level) == (Level.OK, Level.WRONG, Level.OK)
    assert f"127.0.0.1:{port}" in traffic.says
    assert "listen:" in traffic.says
    assert f"(pid {os.getpid()})." in traffic.says


def test_a_running_zerogate_is_named_and_its_ports_are_its_own(admin_url: str, tmp_path: Path) -> None:
    (finding,) = doctor.addresses(Place(state_dir=tmp_path), Admin(admin_url))
    assert finding.level is Level.OK
    assert finding.says == "zerogate 0.1.0 (pid 1) takes traffic on 127.0.0.1:8080"


def test_what_a_running_zerogate_has_to_say_of_its_services_is_repeated(
    admin_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hung = msgspec.structs.replace(CHAT, notices=("chat-1 does not answer its ready path",))
    monkeypatch.setattr(Admin, "services", lambda _: [hung])
    _, notice = doctor.addresses(Place(state_dir=tmp_path), Admin(admin_url))
    assert notice == Finding(Level.NOTE, "chat", "chat-1 does not answer its ready path")


@pytest.mark.parametrize(
    ("free", "level"), [(GB * 5, Level.OK), (GB // 2, Level.NOTE), (GB // 100, Level.WRONG)], ids=["much", "few", "no"]
)
def test_the_room_for_logs_is_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, level: Level) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=free))
    (finding,) = doctor.state_folder(tmp_path / "not" / "there" / "yet")
    assert finding.level is level


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(_: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", nobody)
    assert doctor.usual_state_folder({"XDG_STATE_HOME": "/s"}) == Path("/s/zerogate")
    (finding,) = doctor.state_folder(doctor.usual_state_folder({}))
    assert finding.level is Level.WRONG
    assert "HOME is not set" in finding.says


def test_a_state_folder_below_one_that_may_not_be_looked_into_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    real = os.stat

    def stat(path: str | Path, **more: bool) -> os.stat_result:
        if Path(path).is_relative_to(hidden / "state"):
            raise PermissionError(13, "Permission denied")
        return real(path, **more)

    monkeypatch.setattr(os, "stat", stat)
    monkeypatch.setattr(os, "access", lambda *_: False)
    (finding,) = doctor.state_folder(hidden / "state" / "zerogate")
    assert (finding.level, str(hidden) in finding.says) == (Level.WRONG, True)


def test_a_state_folder_that_is_a_file_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    (finding,) = doctor.state_folder(tmp_path / "state" / "zerogate")
    assert finding.level is Level.WRONG
    assert "state-dir:" in finding.says


def test_a_wrong_file_is_wrong_and_the_rest_is_still_checked(admin_url: str, tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("services:\n  chat: {command: 'true', policy: {idle-timeout: 7x}}\n")
    env = {"ZEROGATE_ADMIN": admin_url, "XDG_STATE_HOME": str(tmp_path)}
    done = CliRunner().invoke(app, ["doctor", str(file)], env=env)
    assert done.exit_code == 1
    assert f"{file}:2: services.chat.policy.idle-timeout" in done.stdout
    assert "state folder" in done.stdout
    assert "GPU" in done.stdout


def test_a_right_file_says_where_things_are(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("listen: 127.0.0.1:1\nadmin: '[::1]:2'\nstate-dir: here\nservices:\n  chat: {command: 'true'}\n")
    place, finding = doctor.file_and_place(file, {"PATH": os.defpath})
    assert place == Place(listen=Address("127.0.0.1", 1), admin=Address("::1", 2), state_dir=tmp_path / "here")
    assert finding.level is Level.OK


def test_without_a_file_the_defaults_hold(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    place, finding = doctor.file_and_place(None, {"XDG_STATE_HOME": "/var/state"})
    assert place == Place(state_dir=Path("/var/state/zerogate"))
    assert finding.level is Level.NOTE


def _nvml(monkeypatch: pytest.MonkeyPatch, devices: int | None) -> None:
    class NVMLError(Exception):
        pass

    def init() -> None:
        if devices is None:
            raise NVMLError("NVML Shared Library Not Found")

    module = ModuleType("pynvml")
    vars(module).update(
        NVMLError=NVMLError, nvmlInit=init, nvmlDeviceGetCount=lambda: devices, nvmlShutdown=lambda: None
    )
    monkeypatch.setitem(sys.modules, "pynvml", module)


def test_gpus_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    _nvml(monkeypatch, 2)
    assert (doctor.gpu().level, doctor.gpu().says) == (Level.OK, "2 devices")


def test_no_driver_and_no_library_are_nothing_to_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    _nvml(monkeypatch, None)
    for finding in (doctor.gpu(), _without_library(monkeypatch)):
        assert finding.level is Level.OK
        assert finding.says.endswith("nothing in this version depends on it.")


def _without_library(monkeypatch: pytest.MonkeyPatch) -> Finding:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    return doctor.gpu()
