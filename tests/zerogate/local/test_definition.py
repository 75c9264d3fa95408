from pathlib import Path

from zerogate.local.definition import LocalDefinition

CHAT = LocalDefinition(
    service="chat",
    command=("serve", "--port={port}", '{"a": {port}}'),
    env={"PATH": "/mine", "SPT_NOENV": "", "OLLAMA_HOST": "127.0.0.1:{port}"},
    definition_hash="h",
    log_file=Path("/l/chat.log"),
)


def test_only_the_port_is_replaced_in_arguments() -> None:
    assert CHAT.arguments(81) == ("serve", "--port=81", '{"a": 81}')


def test_the_environment_adds_to_zerogates_own() -> None:
    env = CHAT.environment({"HOME": "/h", "PATH": "/bin", "ZEROGATE_REPLICA": "of a parent"}, port=81, mark="m")
    assert env == {
        "HOME": "/h",
        "OLLAMA_HOST": "127.0.0.1:81",
        "PATH": "/mine",
        "PORT": "81",
        "PYTHONUNBUFFERED": "1",
        "SPT_NOENV": "",
        "ZEROGATE_REPLICA": "m",
    }
