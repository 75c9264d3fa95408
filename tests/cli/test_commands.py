"""Every command: what it prints and how it ends, against the real admin API of a fake box."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Literal

import msgspec
import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from cli.app import app
from cli.client import Admin
from cli.commands import status
from cli.exits import ExitCode
from tests.cli.fake_box import BROKEN, FakeBox
from zerogate.admin.api import Ending, PinRequest
from zerogate.errors import DefinitionError


def run(*words: str, admin: str = "http://127.0.0.1:9", env: dict[str, str] | None = None) -> Result:
    """The command with nothing of the developer's own environment."""
    given = {"ZEROGATE_ADMIN": admin, "ZEROGATE_DEBUG": None, "COLUMNS": None} | (env or {})
    return CliRunner().invoke(app, list(words), env=given, prog_name="zerogate")


@pytest.fixture
def free_url() -> str:
    """Where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def test_status_is_a_table_of_all_services(admin_url: str) -> None:
    done = run("status", admin=admin_url)
    assert done.exit_code == 0
    rows = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert list(rows) == ["SERVICE", "chat", "broken", "whisper"]
    assert rows["chat"].split()[1:8] == ["ready", "1", "1", "2", "3", "0", "17"]
    assert rows["chat"].rstrip().endswith("to 0 in 15s (idle timeout)")
    assert rows["broken"].rstrip().endswith("tries again in 42s after 4 failures: exited with 3")
    assert rows["whisper"].rstrip().endswith("at http://127.0.0.1:9005, never scaled")


def test_status_as_json_is_the_api_s_answer(admin_url: str) -> None:
    done = run("status", "--json", admin=admin_url)
    assert done.exit_code == 0
    services = json.loads(done.stdout)
    assert [service["name"] for service in services] == ["chat", "broken", "whisper"]
    assert services[0]["replicas"][0]["address"] == "127.0.0.1:41001"


def test_status_without_services_says_what_to_do(box: FakeBox, admin_url: str) -> None:
    box.statuses.clear()
    assert "Name one under services:" in run("status", admin=admin_url).stdout


@pytest.mark.parametrize(
    ("state", "cause", "is_said"),
    [
        ("zero", "start-failed", True),
        ("zero", "crashed", True),
        ("zero", "stopped", False),
        ("ready", "crashed", False),
    ],
)
def test_a_failure_is_still_said_when_starts_are_no_longer_suspended(
    admin_url: str, box: FakeBox, state: Literal["zero", "ready"], cause: Literal["crashed", "stopped"], is_said: bool
) -> None:
    ended = Ending(cause=cause, detail="broken-1 ended with exit code 3.")
    box.statuses = {"broken": msgspec.structs.replace(BROKEN, state=state, back_off=None, last_ending=ended)}
    shown = " ".join(run("status", admin=admin_url).stdout.split())
    assert ("the last one failed: broken-1 ended with exit code 3" in shown) is is_said


def test_watching_goes_on_when_zerogate_goes_away_and_comes_back(admin_url: str, free_url: str) -> None:
    console = Console(record=True, width=120, force_terminal=True, file=open(os.devnull, "w"))  # noqa: SIM115
    admin = Admin(admin_url)
    there, gone = (admin._host, admin._port), ("127.0.0.1", int(free_url.rpartition(":")[2]))
    places = iter([there, gone, there])

    def ticks() -> object:
        for place in places:
            admin._host, admin._port = place
            yield None

    status.watch(admin, console, ticks=ticks())  # type: ignore[arg-type]
    console.file.close()
    shown = console.export_text()
    assert shown.index("WHAT COMES NEXT") < shown.index("No zerogate answers") < shown.rindex("WHAT COMES NEXT")


def test_watch_and_json_do_not_go_together(admin_url: str) -> None:
    assert run("status", "--watch", "--json", admin=admin_url).exit_code == ExitCode.WRONG_INPUT


def test_explain_shows_the_whole_record(admin_url: str) -> None:
    done = run("explain", "chat", admin=admin_url, env={"TZ": "UTC"})
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[0] == "chat is ready: 1 replica ready, 1 wanted."
    assert re.fullmatch(
        r"Decided .*\d\d:\d\d:\d\d, 2 times since: 0 -> 1, because a request waits and nothing runs\.", lines[1]
    )
    assert "  * activation   1  1 held" in lines
    assert "    demand       0  no traffic in the last 60s" in lines
    assert "Held back: the idle timeout ends in 15s." in lines
    assert "Next: to 0 in 15s (idle timeout)." in lines
    assert lines[-1].endswith("1 -> 0  idle: quiet for 15s")


def test_explain_shows_why_starts_are_suspended_with_what_was_printed(admin_url: str) -> None:
    done = run("explain", "broken", admin=admin_url)
    assert "Starts are suspended after 4 failures; the next try is in 42s." in done.stdout
    assert "  | CUDA error: [no] device" in done.stdout


def test_explain_says_that_an_endpoint_is_never_scaled(admin_url: str) -> None:
    said = run("explain", "whisper", admin=admin_url).stdout
    assert "never scales it" in said
    assert "of its requests run and" in said


def test_plan_shows_the_next_transitions(admin_url: str) -> None:
    done = run("plan", "chat", admin=admin_url)
    assert done.exit_code == 0
    assert done.stdout.splitlines()[0] == "now: at least 2"
    assert re.search(r"Mon 2026-09-21 18:00:00 CEST +as traffic asks +Mon-Fri closes", done.stdout)
    assert re.search(r"Tue 2026-09-22 08:00:00 CEST +2 to 3 +opens", done.stdout)


def test_plan_takes_a_count_and_refuses_a_wrong_one(box: FakeBox, admin_url: str) -> None:
    assert run("plan", "chat", "-n", "1", admin=admin_url).exit_code == 0
    assert box.asked == [("plan", "chat", 1)]
    assert run("plan", "chat", "-n", "0", admin=admin_url).exit_code == ExitCode.WRONG_INPUT


def test_plan_without_a_schedule_says_how_to_get_one(admin_url: str) -> None:
    assert "has no schedule" in run("plan", "broken", admin=admin_url).stdout


def test_logs_are_passed_on_byte_by_byte(box: FakeBox, admin_url: str) -> None:
    (box.logs / "chat.log").write_bytes(b"one\ntwo\xff\x1b[31m\nthree")
    done = run("logs", "chat", "--lines", "2", admin=admin_url)
    assert done.exit_code == 0
    assert done.stdout_bytes == b"two\xff\x1b[31m\nthree"


@pytest.mark.slow
def test_followed_logs_come_as_they_are_written_and_end_with_ctrl_c(box: FakeBox, admin_url: str) -> None:
    path = box.logs / "chat.log"
    path.write_bytes(b"before\n")
    command = [sys.executable, "-m", "cli", "--admin", admin_url, "logs", "chat", "-f"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as follower:
        assert follower.stdout is not None
        assert follower.stdout.readline() == b"before\n"
        with path.open("ab") as writer:
            writer.write(b"after\n")
        assert follower.stdout.readline() == b"after\n"
        follower.send_signal(2)
        _, errors = follower.communicate(timeout=10)
    assert follower.returncode == ExitCode.INTERRUPTED
    assert errors == b"zerogate: interrupted\n"


@pytest.mark.slow
def test_a_reader_that_goes_away_ends_it_quietly(box: FakeBox, admin_url: str) -> None:
    (box.logs / "chat.log").write_bytes(b"x" * 80 + b"\n" * 100_000)
    command = f"{sys.executable} -m cli --admin {admin_url} logs chat -n 100000 | head -c 1"
    done = subprocess.run(command, shell=True, capture_output=True)
    assert done.stderr == b""


def test_a_pin_says_until_when_and_how_it_goes(box: FakeBox, admin_url: str) -> None:
    done = run("pin", "chat", "2", "--for", "2h", admin=admin_url)
    assert done.exit_code == 0
    assert re.fullmatch(
        r"chat is pinned to 2 replicas until \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\. `zerogate unpin chat` takes it away\.\n",
        done.stdout,
    )
    assert box.asked == [("pin", "chat", PinRequest(replicas=2, for_s=7200.0))]
    assert "pinned to 2, to 0 in 15s" in run("status", admin=admin_url).stdout
    assert "Pinned to 2 until" in run("explain", "chat", admin=admin_url).stdout


def test_a_pin_without_a_length_holds_until_it_is_taken_away(box: FakeBox, admin_url: str) -> None:
    assert run("pin", "chat", "0", admin=admin_url).stdout.startswith("chat is pinned to 0 replicas. ")
    assert run("unpin", "chat", admin=admin_url).stdout == "chat is scaled by its policy again.\n"
    assert box.asked == [("pin", "chat", PinRequest(replicas=0)), ("unpin", "chat")]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        pytest.param(("pin", "chat", "2", "--for", "2"), '--for: "2" has no unit', id="length without a unit"),
        pytest.param(("pin", "chat", "2", "--for", "0s"), "--for: no time at all", id="no time"),
        pytest.param(("pin", "chat", "2", "--for", "9999d"), "--for: longer than a year", id="longer than dates go"),
        pytest.param(("pin", "chat", "-1"), "No such option", id="negative"),
        pytest.param(("pin", "chat", "many"), "should be a valid integer", id="not a number"),
        pytest.param(("pin", "chat", "9"), "2 replicas at most", id="over the maximum"),
        pytest.param(("staus",), "Did you mean 'status'?", id="unknown command"),
        pytest.param(("--admin", "ftp://x", "status"), "is not an admin address", id="not a URL"),
        pytest.param(("--admin", "http://x:99999", "status"), "is not an admin address", id="not a port"),
        pytest.param(("explain",), "Missing argument", id="missing argument"),
    ],
)
def test_wrong_input_ends_with_2_says_what_and_changes_nothing(
    box: FakeBox, admin_url: str, words: tuple[str, ...], says: str
) -> None:
    done = run(*words, admin=admin_url)
    assert (done.exit_code, done.stdout) == (ExitCode.WRONG_INPUT, "")
    assert says in done.stderr
    assert box.asked == []


@pytest.mark.parametrize("words", [("explain",), ("plan",), ("logs",), ("pin", "1"), ("unpin",)], ids=lambda w: w[0])
def test_an_unknown_service_ends_with_4_and_the_nearest_name(admin_url: str, words: tuple[str, ...]) -> None:
    done = run(words[0], "chta", *words[1:], admin=admin_url)
    assert (done.exit_code, done.stdout) == (ExitCode.UNKNOWN_SERVICE, "")
    assert done.stderr == "There is no service chta. Did you mean chat?\n"


def test_what_a_service_cannot_do_ends_with_1(admin_url: str) -> None:
    done = run("pin", "whisper", "1", admin=admin_url)
    assert done.exit_code == ExitCode.FAILED
    assert done.stderr == "whisper runs elsewhere, so zerogate does not scale it.\n"


@pytest.mark.parametrize(
    "words",
    [("status",), ("explain", "a"), ("plan", "a"), ("logs", "a"), ("pin", "a", "1"), ("unpin", "a"), ("reload",)],
    ids=lambda words: words[0],
)
def test_without_a_zerogate_everything_ends_with_3_and_says_what_to_do(free_url: str, words: tuple[str, ...]) -> None:
    done = run(*words, admin=free_url)
    assert (done.exit_code, done.stdout) == (ExitCode.UNREACHABLE, "")
    assert f"No zerogate answers at {free_url} (Connection refused)" in done.stderr
    assert "zerogate up" in done.stderr
    assert "ZEROGATE_ADMIN" in done.stderr


@pytest.mark.parametrize(
    ("says", "told"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "is not zerogate's administration"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nhi", "it said 404 Not Found. --admin URL or"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "(what answers there is no HTTP). Start one"),
    ],
    ids=["another program", "another's refusal", "no HTTP"],
)
def test_something_else_at_the_address_is_said(says: bytes, told: str) -> None:
    def answer(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(says)

    with socket.create_server(("127.0.0.1", 0)) as server:
        other = threading.Thread(target=answer, args=(server,))
        other.start()
        done = run("status", admin=f"127.0.0.1:{server.getsockname()[1]}")
        other.join()
    assert done.exit_code == ExitCode.UNREACHABLE
    assert told in done.stderr
    assert done.stderr.count("\n") == 1


def test_reload_says_what_it_did(admin_url: str) -> None:
    done = run("reload", admin=admin_url)
    assert (done.exit_code, done.stdout) == (0, "added new; changed chat; 2 unchanged\n")


def test_a_wrong_file_ends_a_reload_with_2_and_its_place(box: FakeBox, admin_url: str) -> None:
    box.reload_error = DefinitionError("7x is not a duration", key="idle-timeout", source="zerogate.yaml", line=3)
    done = run("reload", admin=admin_url)
    assert done.exit_code == ExitCode.WRONG_INPUT
    assert done.stderr == "zerogate.yaml:3: idle-timeout: 7x is not a duration.\n"


def test_help_names_every_command_and_exit_code() -> None:
    done = run("--help")
    assert done.exit_code == 0
    for word in "up demo check doctor status explain plan logs pin unpin reload version".split():  # noqa: SIM905
        assert re.search(rf"^  {word} +\S", done.stdout, re.MULTILINE), word
    for code in ExitCode:
        assert re.search(rf"^    {code.value} +\S", done.stdout, re.MULTILINE), code


def test_version_is_said() -> None:
    for words in ("version", "--version", "--version status"):
        assert re.fullmatch(r"zerogate \d\S+\n", run(*words.split()).stdout)


def _module(monkeypatch: pytest.MonkeyPatch, name: str, **functions: object) -> None:
    module = ModuleType(name)
    vars(module).update(functions)
    monkeypatch.setitem(sys.modules, name, module)


@pytest.mark.parametrize(
    ("words", "module", "function", "called"),
    [
        pytest.param(("up",), "cli.up", "run", (Path("zerogate.yaml"),), id="up"),
        pytest.param(("up", "a.yaml"), "cli.up", "run", (Path("a.yaml"),), id="up a file"),
        pytest.param(("check", "a.yaml"), "cli.check", "run_check", (Path("a.yaml"),), id="check"),
        pytest.param(("demo", "--keep"), "cli.demo.story", "run", (), id="demo"),
    ],
)
def test_what_runs_gets_its_arguments_and_gives_its_exit_code(
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    module: str,
    function: str,
    called: tuple[object, ...],
) -> None:
    seen: list[tuple[object, ...]] = []

    def fake(*arguments: object, **_: object) -> int:
        seen.append(arguments)
        return 7

    _module(monkeypatch, module, **{function: fake})
    assert run(*words).exit_code == 7
    assert seen == [called]


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        pytest.param(DefinitionError("7x is wrong", source="a.yaml", line=2), 2, "a.yaml:2: 7x is wrong.\n", id="file"),
        pytest.param(ZeroDivisionError("oops"), 1, "ZeroDivisionError: oops\nZEROGATE_DEBUG=1", id="unforeseen"),
        pytest.param(KeyboardInterrupt(), 130, "zerogate: interrupted\n", id="Ctrl-C"),
    ],
)
def test_no_traceback_reaches_a_user(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, says: str
) -> None:
    def fail(_: Path) -> int:
        raise error

    _module(monkeypatch, "cli.up", run=fail)
    done = run("up")
    assert done.exit_code == code
    assert says in done.stderr
    assert "Traceback" not in done.output


def test_quick_commands_load_neither_the_server_nor_the_parser_of_files() -> None:
    heavy = {"aiohttp", "yaml", "prometheus_client", "uvloop", "kubernetes_asyncio", "openai", "rich", "msgspec"}
    code = f"import sys; import cli.app; print(sorted({heavy} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_help_takes_less_than_300_ms_of_cpu() -> None:
    """CPU time, the best of three: the machine may be busy with something else."""
    spent = []
    for _ in range(3):
        child = subprocess.Popen([sys.executable, "-m", "cli", "--help"], stdout=subprocess.DEVNULL)
        _, code, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(code)
        spent.append(usage.ru_utime + usage.ru_stime)
    assert min(spent) < 0.3


def test_up_loads_nothing_of_the_commands_output() -> None:
    """rich alone would cost `zerogate up` 4 MiB, what traces need another 20."""
    heavy = {"rich", "prometheus_client", "opentelemetry"}
    code = f"import sys; import cli.app, cli.up; print(sorted({heavy} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")
