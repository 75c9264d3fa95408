"""What the doctor says of an API server before it looks at anything else; the rest is tried in `tests/kubernetes/`."""

from typing import Any, cast

import pytest

from cli.commands.doctor import Level
from cli.kubectl.doctor import findings
from cli.kubectl.way import Answer
from zerogate.clock import wall
from zerogate.kube.errors import Asked


class Server:
    server = "https://192.0.2.1"

    def __init__(self, version: str, off_s: float) -> None:
        self._answer = Answer({"gitVersion": version}, wall() + off_s)

    def get(self, path: str, asked: Asked) -> Answer:
        return self._answer


def first_two(version: str, off_s: float) -> list[tuple[Level, str]]:
    found = findings(cast(Any, Server(version, off_s)), "zerogate-system", "zerogate")
    return [(one.level, one.says) for one in (next(found), next(found))]


@pytest.mark.parametrize(
    ("off_s", "says"),
    [
        (
            120.0,
            "the API server is 2m ahead of this machine: calendars, tokens and certificates need right clocks (NTP).",
        ),
        (
            -90.0,
            "the API server is 1m30s behind this machine: calendars, tokens and certificates need right clocks (NTP).",
        ),
    ],
)
def test_clocks_that_differ_are_said_with_their_difference(off_s: float, says: str) -> None:
    assert first_two("v1.34.4", off_s)[1] == (Level.WRONG, says)


def test_a_second_or_two_is_no_difference() -> None:
    assert first_two("v1.34.4", 1.5)[1][0] is Level.OK


def test_a_server_without_native_sidecars_is_said() -> None:
    assert first_two("v1.28.3", 0.0)[0] == (Level.WRONG, "v1.28.3; native sidecars need Kubernetes 1.29 or newer.")
    assert first_two("v1.29.0+k3s1", 0.0)[0][0] is Level.OK
