"""What is printed to be typed fits the ports that zerogate really has."""

import json
import shlex

import pytest

from cli.demo.cast import GEMMA
from cli.demo.encore import lines


def test_the_request_is_one_that_a_shell_passes_on_whole() -> None:
    words = shlex.split(lines(GEMMA, traffic="http://127.0.0.1:8080", admin="http://127.0.0.1:8081")[0])
    assert json.loads(words[-1])["model"] == "gemma3-270m"
    assert "http://127.0.0.1:8080/v1/chat/completions" in words


@pytest.mark.parametrize(("port", "is_said"), [(8081, False), (40001, True)], ids=["the usual one", "another"])
def test_commands_name_the_admin_address_only_where_it_is_not_the_usual_one(port: int, is_said: bool) -> None:
    typed = lines(GEMMA, traffic="http://127.0.0.1:8080", admin=f"http://127.0.0.1:{port}")
    assert ("--admin http://127.0.0.1:40001 status" in typed[-2]) is is_said
