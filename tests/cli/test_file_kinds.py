import re

import pytest

from cli.box import Endpoint
from cli.file_kinds import CommandLine, EndpointUrl, Environment, ListenAddress
from zerogate.errors import DefinitionError
from zerogate.runtime.interface import Address


def test_an_address_has_a_host_and_a_port() -> None:
    assert ListenAddress().parse("127.0.0.1:8080") == Address("127.0.0.1", 8080)
    assert ListenAddress().parse("[::1]:0") == Address("::1", 0)


def test_a_port_alone_is_told_how_to_become_an_address() -> None:
    with pytest.raises(DefinitionError, match=r"Write 127\.0\.0\.1:8080"):
        ListenAddress().parse(8080)


@pytest.mark.parametrize("raw", ["127.0.0.1:65536", "127.0.0.1", "[::1]", "a b:1", ":80", None, True, ["a:1"]])
def test_what_is_no_address_is_refused(raw: str | None) -> None:
    with pytest.raises(DefinitionError, match=r"such as 127\.0\.0\.1:8080"):
        ListenAddress().parse(raw)


def test_an_endpoint_is_where_a_server_listens() -> None:
    assert EndpointUrl().parse("http://127.0.0.1:9005") == Endpoint(Address("127.0.0.1", 9005))
    assert EndpointUrl().parse("http://whisper.local/") == Endpoint(Address("whisper.local", 80))
    assert EndpointUrl().parse("http://[::1]:9005") == Endpoint(Address("::1", 9005))
    assert EndpointUrl().parse("https://models.lan") == Endpoint(Address("models.lan", 443), is_secure=True)
    assert EndpointUrl().parse("unix:/run/m.sock") == Endpoint(Address("", 0, "/run/m.sock"))


def test_an_endpoint_is_asked_for_as_browsers_do() -> None:
    urls = ("http://h:80", "https://h", "https://h:8443", "https://[::1]", "unix:/run/m.sock")
    assert [EndpointUrl().parse(url).authority for url in urls] == ["h:80", "h", "h:8443", "[::1]", "localhost"]
    assert [str(EndpointUrl().parse(url)) for url in urls] == list(urls)


@pytest.mark.parametrize(
    "raw",
    [
        "https://h/p",
        "unix:",
        "ftp://h",
        "http://h/p",
        "http://u:p@h",
        "http://h:99999",
        "http://h:0",
        "http://",
        "http://[:::]]",
        "h",
        3,
    ],
)
def test_what_is_no_endpoint_is_refused(raw: str) -> None:
    with pytest.raises(DefinitionError):
        EndpointUrl().parse(raw)


def test_a_command_is_split_as_a_shell_splits_and_nothing_is_expanded() -> None:
    assert CommandLine().parse("python -m 'a b' --port {port} '$HOME' *") == (
        "python", "-m", "a b", "--port", "{port}", "$HOME", "*",
    )  # fmt: skip
    assert CommandLine().parse(["a b", "c"]) == ("a b", "c")


def test_a_command_may_go_on_behind_a_backslash_as_in_a_terminal() -> None:
    assert CommandLine().parse("serve big \\\n  --port {port}\\\n --quiet\n") == (
        "serve", "big", "--port", "{port}", "--quiet",
    )  # fmt: skip
    assert CommandLine().parse("serve --model=/models/\\\nbig") == ("serve", "--model=/models/big")


@pytest.mark.parametrize(
    "text",
    ["serve big \\ --port {port}", "serve big \\ \n  --port {port}", "serve big \\\r\n --port {port}\\\n"],
    ids=["folded", "a blank too many", "of another system"],
)
def test_a_backslash_alone_is_no_argument(text: str) -> None:
    assert CommandLine().parse(text) == ("serve", "big", "--port", "{port}")


def test_a_blank_that_is_meant_stays() -> None:
    command = r"""serve /my\ models '\ a' "\ b" c\\ d"""
    assert CommandLine().parse(command) == ("serve", "/my models", "\\ a", "\\ b", "c\\", "d")


@pytest.mark.parametrize(
    "raw",
    ["serve {PORT}", "serve ${port}", "serve --port={{port}}", "serve {{ port }}", ["sh", "-c", "exec serve ${port}"]],
)
def test_what_is_all_but_the_place_of_the_port_is_refused(raw: str | list[str]) -> None:
    with pytest.raises(DefinitionError, match=r"Write \{port\}\."):
        CommandLine().parse(raw)  # type: ignore[arg-type]


def test_a_place_of_the_port_in_a_variable_is_held_to_the_same() -> None:
    assert Environment().parse_entry("HOST", "127.0.0.1:{port}") == "127.0.0.1:{port}"
    with pytest.raises(DefinitionError, match=r"Write \{port\}\."):
        Environment().parse_entry("HOST", "127.0.0.1:{PORT}")


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ("cd x && serve", r'"&&" is for a shell, .* \["sh", "-c"'),
        ("cd x; serve", '"x;" is for a shell'),
        ("serve > log 2>&1", '">" is for a shell'),
        ("serve --port $PORT", r'"\$PORT" is for a shell.* Write \{port\}\.'),
        ("serve --model ~/m.gguf", '"~/m.gguf" is for a shell'),
        ("serve --model ${HOME}/m", "is for a shell"),
        (
            "CUDA_VISIBLE_DEVICES=0 vllm serve",
            '"CUDA_VISIBLE_DEVICES=0" is a variable and no program. Write it under env',
        ),
    ],
)
def test_what_only_a_shell_understands_is_refused_with_the_way_out(raw: str, said: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        CommandLine().parse(raw)
    assert re.search(said, str(caught.value))


@pytest.mark.parametrize(
    "raw",
    ["sh -c 'cd x && exec serve --port $PORT'", 'sh -c "exec serve $PORT"', "serve --stop ^a$", "env A=1 serve a=b",
     r"serve \$HOME", "serve --json '{\"a\": 1; }'"],
)  # fmt: skip
def test_what_stands_in_quotes_is_the_program_s_own_affair(raw: str) -> None:
    assert CommandLine().parse(raw)


@pytest.mark.parametrize("raw", ["", "  ", "''", "x 'y", [], [""], ["a", None], 3, "x" * 70_000])
def test_what_is_no_command_is_refused(raw: str) -> None:
    with pytest.raises(DefinitionError):
        CommandLine().parse(raw)


@pytest.mark.parametrize(
    ("name", "value"), [("1A", "x"), ("A-B", "x"), ("", "x"), ("PORT", "1"), ("ZEROGATE_X", "1"), ("A", None)]
)
def test_a_variable_that_cannot_be_given_is_refused(name: str, value: str | None) -> None:
    with pytest.raises(DefinitionError):
        Environment().parse_entry(name, value)


def test_a_variable_keeps_its_text() -> None:
    assert Environment().parse_entry("A_1", "1.10") == "1.10"
