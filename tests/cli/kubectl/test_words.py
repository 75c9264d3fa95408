"""Options of kubectl may stand anywhere on the line."""

import pytest

from cli.kubectl.words import hoisted


@pytest.mark.parametrize(
    ("line", "becomes"),
    [
        ("status", "status"),
        ("status -n team", "-n team status"),
        ("explain llama --namespace=team", "--namespace=team explain llama"),
        ("pin -nteam llama 2 --for 2h --context prod", "-nteam --context prod pin llama 2 --for 2h"),
        ("-n team plan llama --count 3", "-n team plan llama --count 3"),
        ("explain -- -n", "explain -- -n"),
        ("status -n", "-n"),
        ("pin llama 2 -n team --context", "-n team --context"),
        ("--help", "--help"),
    ],
)
def test_they_come_before_the_command(line: str, becomes: str) -> None:
    assert hoisted(line.split()) == becomes.split()
