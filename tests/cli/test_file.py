import time
from pathlib import Path
from typing import Any

import pytest

from cli.box import BoxFile, Endpoint, definition_hash
from cli.file import LARGEST_BYTES, MOST_ERRORS, parse_box_file, read_box_file
from zerogate.errors import DefinitionErrors
from zerogate.runtime.interface import Address

HOME = {"HOME": "/home/u"}
EXAMPLE = """\
listen: 127.0.0.1:8080
admin: 127.0.0.1:8081
services:
  chat:
    command: python -m zerogate.demo.llm --port {port}   # a string or a list
    env: {}
    models: [gemma3-270m]
    policy: {max-replicas: 1, idle-timeout: 15s}
  whisper: {endpoint: "http://127.0.0.1:9005", path-prefix: /asr}
"""


def box(text: str, environ: dict[str, str] = HOME) -> BoxFile:
    return parse_box_file(text, source="z.yaml", folder=Path("/srv/z"), environ=environ)


def mistakes(text: str, environ: dict[str, str] = HOME) -> list[str]:
    with pytest.raises(DefinitionErrors) as caught:
        box(text, environ)
    return [str(error) for error in caught.value.errors]


def service(lines: str) -> str:
    return "services:\n  chat:\n" + "".join(f"    {line}\n" for line in lines.splitlines())


def test_the_example_says_what_it_says() -> None:
    read = box(EXAMPLE)
    chat, whisper = read.services["chat"], read.services["whisper"]
    assert (read.listen, read.admin) == (Address("127.0.0.1", 8080), Address("127.0.0.1", 8081))
    assert chat.command is not None
    assert chat.command.argv == ("python", "-m", "zerogate.demo.llm", "--port", "{port}")
    assert (chat.command.cwd, chat.command.log_file) == ("/srv/z", None)
    assert (chat.command.start_timeout_s, chat.command.stop_grace_s) == (600, 30)
    assert (chat.policy.models, chat.policy.idle_timeout_s) == (("gemma3-270m",), 15)
    assert (whisper.command, whisper.endpoint) == (None, Endpoint(Address("127.0.0.1", 9005)))
    assert whisper.policy.path_prefix == "/asr"


def test_defaults_listen_on_loopback_and_keep_state_where_xdg_says() -> None:
    read = box(service("command: x"))
    assert (str(read.listen), str(read.admin), read.access_log) == ("127.0.0.1:8080", "127.0.0.1:8081", "off")
    assert read.state_dir == "/home/u/.local/state/zerogate"
    assert box(service("command: x"), {"XDG_STATE_HOME": "/var/s"}).state_dir == "/var/s/zerogate"


def test_every_key_reaches_its_place() -> None:
    text = """\
access-log: on
state-dir: ./state
max-connections: 1000
max-connections-per-client: 10
body-memory: 64Mi
trace-to: http://127.0.0.1:4318
trace-sample: 12.5%
services:
  chat:
    command: [run, 1.10, on, "{port}"]
    env: {A: 1.10, B: on, C: 'x', D: '', E: 007}
    cwd: models
    log-file: ~/chat.log
    start-timeout: 2m
    stop-grace: 5s
    hosts: chat.example.org
    policy: {health-paths: /ping}
"""
    read = box(text)
    command = read.services["chat"].command
    assert command is not None
    assert (read.access_log, read.state_dir) == ("on", "/srv/z/state")
    assert (read.max_connections, read.max_connections_per_client, read.body_memory_bytes) == (1000, 10, 64 << 20)
    assert (read.trace_to, read.trace_ratio) == ("http://127.0.0.1:4318/v1/traces", 0.125)
    assert command.argv == ("run", "1.10", "on", "{port}")
    assert command.env == {"A": "1.10", "B": "on", "C": "x", "D": "", "E": "007"}
    assert (command.cwd, command.log_file) == ("/srv/z/models", "/home/u/chat.log")
    assert (command.start_timeout_s, command.stop_grace_s) == (120, 5)
    assert read.services["chat"].policy.hosts == ("chat.example.org",)
    assert read.services["chat"].policy.health_paths == ("/ping",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "z.yaml:1: is empty"),
        ("- a\n", "z.yaml:1: does not begin with a key"),
        ("listen: 127.0.0.1:1\n", "services: there is no service"),
        ("services:\n", "z.yaml:1: services: has nothing under it"),
        ("services: {}\n", "z.yaml:1: services: there is no service"),
        ("services: 3\n", "z.yaml:1: services: is not a table of keys"),
        ("services: [{name: a}]\n", "services: is not a table of keys. Write NAME: and a value in each line"),
        (
            "services: {a: {command: x}}\nchat:\n  command: y\n",
            "z.yaml:2: chat: stands where keys of the file stand. Put the service under services:",
        ),
        (
            service("command: x\nmin_replicas: 1"),
            "services.chat.min_replicas: is a key of the policy. Put min-replicas under policy:",
        ),
        (service("command: x\nport: 8000"), "services.chat.port: is not a key of a service. zerogate chooses the port"),
        (
            service("command: x\nenvironment: {A: b}"),
            "services.chat.environment: is not a key of a service. Did you mean env?",
        ),
        ("services:\n  chat:\n", "z.yaml:2: services.chat: has nothing under it"),
        ("services:\n  chat: x\n", "z.yaml:2: services.chat: is not a table of keys"),
        (
            "lisen: 127.0.0.1:1\nservices: {a: {command: x}}\n",
            "z.yaml:1: lisen: is not a key of the file. Did you mean listen?",
        ),
        ("listen: 8080\nservices: {a: {command: x}}\n", "z.yaml:1: listen: 8080 is not allowed."),
        ("access-log: all\nservices: {a: {command: x}}\n", 'z.yaml:1: access-log: "all" is not allowed.'),
        ("trace-to: 127.0.0.1:4318\nservices: {a: {command: x}}\n", 'z.yaml:1: trace-to: "127.0.0.1:4318" is not'),
        ("trace-to: http://h:0\nservices: {a: {command: x}}\n", 'z.yaml:1: trace-to: "http://h:0" is not allowed.'),
        ("trace-to: http://h:99999\nservices: {a: {command: x}}\n", 'z.yaml:1: trace-to: "http://h:99999" is not'),
        (
            "trace-to: http://localhost:8080\nservices: {a: {command: x}}\n",
            "z.yaml:1: trace-to: http://localhost:8080/v1/traces is zerogate itself (listen)",
        ),
        ("trace-sample: 101%\nservices: {a: {command: x}}\n", 'z.yaml:1: trace-sample: "101%" is out of range'),
        ("state-dir: ${NOPE}/x\nservices: {a: {command: x}}\n", 'z.yaml:1: state-dir: "${NOPE}/x" needs $NOPE'),
        ("admin: 127.0.0.1:8080\nservices: {a: {command: x}}\n", "z.yaml:1: admin: admin (127.0.0.1:8080) and listen"),
        (
            "services:\n  a: {endpoint: 'http://localhost:8080'}\n",
            "z.yaml:2: services.a.endpoint: http://localhost:8080 is",
        ),
        ("listen: 0.0.0.0:8081\nservices: {a: {command: x}}\n", "z.yaml:1: listen: admin (127.0.0.1:8081) and listen"),
        ("services: {Chat: {command: x}}\n", 'z.yaml:1: services.Chat: "Chat" is not a name of a service'),
        (f"services: {{{'a' * 64}: {{command: x}}}}\n", "is not a name of a service"),
        (service("comand: x"), "z.yaml:3: services.chat.comand: is not a key of a service. Did you mean command?"),
        (service("command: x\nendpoint: http://h"), "z.yaml:2: services.chat: has a command and an endpoint"),
        (service("models: a"), "z.yaml:2: services.chat: has neither a command nor an endpoint"),
        (service("command: x 'y"), 'z.yaml:3: services.chat.command: "x \'y" cannot be split'),
        (service("command:"), "z.yaml:3: services.chat.command: has no value"),
        (service("command: {a: b}"), "z.yaml:3: services.chat.command: a table of keys stands where a value belongs"),
        (service("command: x\nenv: [A]"), "z.yaml:4: services.chat.env: is not a table of keys"),
        (service("command: x\nenv:\n  A:"), "z.yaml:5: services.chat.env.A: has no value"),
        (service("command: x\nenv:\n  A: [b]"), "z.yaml:5: services.chat.env.A: a list or table stands"),
        (service("command: x\nenv: {PORT: 1}"), "services.chat.env.PORT: PORT is given by zerogate"),
        (service("command: x\nstart-timeout: 5"), 'z.yaml:4: services.chat.start-timeout: "5" has no unit'),
        (service("command: x\nidle-timeout: 5s"), "z.yaml:4: services.chat.idle-timeout: is a key of the policy"),
        (
            service("command: x\nmodels: a\npolicy: {models: b}"),
            "z.yaml:5: services.chat.policy.models: is given twice, first on line 4",
        ),
        (
            service("command: x\npolicy:\n  idle-timout: 5s"),
            "z.yaml:5: services.chat.policy.idle-timout: is not a key of a policy. Did you mean idle-timeout?",
        ),
        (
            service("command: x\npolicy:\n  min-replicas: 2"),
            "z.yaml:5: services.chat.policy.min-replicas: 2 is above max-replicas",
        ),
        (
            service("command: x\npolicy:\n  stable-window: 3s"),
            "z.yaml:4: services.chat.policy.panic-window: 6s by default",
        ),
        (service("command: x\npolicy: 3"), "z.yaml:4: services.chat.policy: is not a table of keys"),
        (service("endpoint: http://h\ncwd: /x"), "z.yaml:4: services.chat.cwd: is about a command"),
        (service("endpoint: http://h\nenv: {A: b}"), "z.yaml:4: services.chat.env: is about a command"),
        (
            service("endpoint: http://h\npolicy: {max-replicas: 2}"),
            "z.yaml:4: services.chat.policy.max-replicas: is about scaling",
        ),
        (service("command: x\ncommand: y"), "z.yaml:4: services.chat.command: is given twice, first on line 3"),
    ],
)
def test_a_mistake_is_told_once_with_file_line_and_key(text: str, expected: str) -> None:
    (message,) = mistakes(text)
    assert expected in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ("{command: y, models: a}", 'z.yaml:3: services.b.models: the model "a" is served by a (line 2) already'),
        ("{command: y, policy: {models: [x, a]}}", 'services.b.policy.models: the model "a" is served by a (line 2)'),
    ],
)
def test_one_model_name_leads_to_one_service(other: str, expected: str) -> None:
    (message,) = mistakes(f"services:\n  a: {{command: x, models: [a, c]}}\n  b: {other}\n")
    assert expected in message


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("hosts: [h, i]", "hosts: [i, j]", "services.b.hosts: the path prefix / at the host i goes to a (line 2)"),
        ("hosts: h, path-prefix: /x", "hosts: H, path-prefix: /x/", "the path prefix /x at the host h goes to a"),
        ("path-prefix: /x", "path-prefix: /x, models: m", "services.b.path-prefix: the path prefix /x goes to a"),
        ("cwd: .", "hosts: a", "services.b.hosts: the path prefix / at the host a goes to a"),
    ],
)
def test_one_host_and_prefix_leads_to_one_service(one: str, other: str, expected: str) -> None:
    (message,) = mistakes(f"services:\n  a: {{command: x, {one}}}\n  b: {{command: x, {other}}}\n")
    assert expected in message


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("hosts: h", "hosts: i"),
        ("hosts: h", "hosts: h, path-prefix: /x"),
        ("models: a", "models: b"),
        ("models: a", "cwd: ."),
        ("path-prefix: /x", "path-prefix: /xy"),
    ],
)
def test_services_that_can_be_told_apart_are_fine(one: str, other: str) -> None:
    assert len(box(f"services:\n  a: {{command: x, {one}}}\n  b: {{command: x, {other}}}\n").services) == 2


def test_all_mistakes_of_a_file_are_told_in_the_order_of_its_lines() -> None:
    text = "listen: 1\nservices:\n  a:\n    command: x\n    env: {1A: b}\n    stop-grace: 1\n  b: {}\nadmn: x\n"
    assert [message.split(": ")[0] for message in mistakes(text)] == [f"z.yaml:{line}" for line in (1, 5, 6, 7, 8)]


def test_a_file_that_is_wrong_everywhere_is_told_in_a_screenful() -> None:
    messages = mistakes("services:\n" + "".join(f"  s{number}: {{models: m{number}}}\n" for number in range(50)))
    assert len(messages) == MOST_ERRORS + 1
    assert messages[-1] == f"z.yaml: and {50 - MOST_ERRORS} more mistakes."


def test_lines_of_keys_can_be_asked_for_later() -> None:
    read = box(EXAMPLE)
    assert read.line_of("services", "chat", "command") == 5
    assert read.line_of("services", "chat", "cwd") == 4
    assert read.line_of("nothing") is None


def test_moving_a_service_in_the_file_leaves_it_equal() -> None:
    moved = EXAMPLE.replace("services:\n", "services:\n\n\n")
    assert box(moved).services == box(EXAMPLE).services


def test_two_thousand_lines_of_services_are_read_well_within_a_second() -> None:
    one = "  s{0}:\n    command: python -m x --port {{port}}\n    models: [m{0}]\n    env: {{A: b}}\n"
    policy = "    policy: {max-replicas: 1, idle-timeout: 15s, schedule: 'Mon-Fri 08:00-18:00 UTC = 1'}\n"
    text = "services:\n" + "".join(one.format(number) + policy for number in range(1000))
    started = time.process_time()
    assert len(box(text).services) == 1000
    assert time.process_time() - started < 0.8


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"services:\n  a: {command: \xff}\n", ":2: is not text in UTF-8"),
        (b"#" * (LARGEST_BYTES + 1), "is larger than 8 MiB"),
        (b"a: [", "is not YAML"),
    ],
)
def test_a_file_that_is_no_yaml_is_one_paragraph(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "z.yaml"
    path.write_bytes(content)
    with pytest.raises(DefinitionErrors, match=said):
        read_box_file(path)


def test_a_missing_file_and_a_folder_are_said(tmp_path: Path) -> None:
    with pytest.raises(DefinitionErrors, match="cannot be read: no such file or directory"):
        read_box_file(tmp_path / "none.yaml")
    with pytest.raises(DefinitionErrors, match="cannot be read: is a directory"):
        read_box_file(tmp_path)


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(_: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", nobody)
    (message,) = mistakes("services: {a: {command: x}}\n", {})
    assert "state-dir: there is no home folder" in message
    assert "Set HOME" in message


def test_a_command_that_never_reads_its_port_is_known() -> None:
    text = """\
services:
  told: {command: "serve --port {port}"}
  by-env: {command: serve, env: {LISTEN: "127.0.0.1:{port}"}}
  by-shell: {command: [sh, -c, "exec serve $PORT"]}
  untold: {command: serve --port 8000}
"""
    untold = [name for name, one in box(text).services.items() if one.command is not None and one.command.port_note]
    assert untold == ["untold"]


def test_paths_are_seen_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "z.yaml"
    path.write_text("\ufeffservices: {a: {command: x, log-file: a.log}}", encoding="utf-8")
    command = read_box_file(path, HOME).services["a"].command
    assert command is not None
    assert (command.cwd, command.log_file) == (str(tmp_path), str(tmp_path / "a.log"))


HASHED: list[tuple[str, dict[str, Any]]] = [
    ("command: x -y", {"same": False}),
    ("command: x\nenv: {A: c}", {"same": False}),
    ("command: x\ncwd: /y", {"same": False}),
    ("command: x\nlog-file: /y", {"same": False}),
    ("command: [x]", {"same": True}),
    ("command: x\nstart-timeout: 1s\nstop-grace: 1s", {"same": True}),
    ("command: x\nmodels: a\npolicy: {idle-timeout: 1s}", {"same": True}),
]


@pytest.mark.parametrize(("lines", "expected"), HASHED, ids=[lines for lines, _ in HASHED])
def test_the_hash_tells_whether_a_running_process_is_still_the_right_one(lines: str, expected: dict[str, Any]) -> None:
    before = definition_hash(box(service("command: x")).services["chat"])
    assert (definition_hash(box(service(lines)).services["chat"]) == before) is expected["same"]


def test_the_hash_is_the_same_tomorrow() -> None:
    one = definition_hash(box(service("command: x\nenv: {A: b, C: d}")).services["chat"])
    assert one == definition_hash(box(service("command: x\nenv: {C: d, A: b}")).services["chat"])
    assert one == "9cff027a6259"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (
            "endpoint: https://h\npolicy: {protocol: h2c}",
            "h2c is HTTP/2 without TLS, and the endpoint is https://h. Write h2",
        ),
        (
            "endpoint: http://h\npolicy: {protocol: h2}",
            "h2 is HTTP/2 over TLS, and the endpoint is http://h:80. Write h2c",
        ),
        ("command: x\npolicy: {protocol: h2}", "h2 is HTTP/2 over TLS, and replicas of a command .*Write h2c"),
    ],
)
def test_the_word_for_http_2_and_the_address_agree_about_tls(lines: str, said: str) -> None:
    with pytest.raises(DefinitionErrors, match=said):
        box(service(lines))
    assert box(service("endpoint: https://h\npolicy: {protocol: h2}")).services["chat"].policy.protocol == "h2"
    assert box(service("endpoint: http://h\npolicy: {protocol: h2c}")).services["chat"].policy.protocol == "h2c"
