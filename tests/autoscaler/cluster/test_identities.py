"""Whose a token is: asked once, remembered for as long as it lives, and no more than it proves."""

import base64
import json
from typing import Any

import pytest

from autoscaler.cluster.identities import Identities
from autoscaler.cluster.reviews import LEAST_S, REMEMBERED_S, expires_in_s
from autoscaler.identity import Identity, Refused
from zerogate.kube.client import KubeClient
from zerogate.kube.errors import Asked, Unreachable

WALL_S = 1_790_000_000.0


def token(expires_in: float = 3600.0, salt: str = "") -> str:
    claims = json.dumps({"exp": WALL_S + expires_in, "salt": salt}).encode()
    return f"head.{base64.urlsafe_b64encode(claims).decode().rstrip('=')}.signature"


class Server(KubeClient):
    """Answers reviews with `status`."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.status: dict[str, Any] = {}
        self.is_away = False

    async def request(self, method: str, path: str, *, asked: Asked, body: Any = None, **_: Any) -> bytes:
        assert (method, path) == ("POST", "/apis/authentication.k8s.io/v1/tokenreviews")
        self.asked.append(body["spec"])
        if self.is_away:
            raise Unreachable(asked, "gone")
        return json.dumps({"status": self.status}).encode()


def proven(account: str = "default", namespace: str = "ml", pod: str = "llama-1", **more: Any) -> dict[str, Any]:
    extra = {"authentication.kubernetes.io/pod-name": [pod], "authentication.kubernetes.io/pod-uid": ["u1"]}
    user = {"username": f"system:serviceaccount:{namespace}:{account}", "extra": extra if pod else {}}
    return {"authenticated": True, "user": user, "audiences": ["zerogate-stats"], **more}


class Room:
    def __init__(self) -> None:
        self.server = Server()
        self.now_s = 100.0
        self.pods = {("ml", "llama-1", "u1"): "ml/llama"}
        self.it = Identities(
            self.server, lambda *pod: self.pods.get(pod), home="system", audience="zerogate-stats",
            reporters=("zerogate-gateway",), clock=self.clock, calendar=lambda: WALL_S,
        )  # fmt: skip

    def clock(self) -> float:
        self.now_s += 0.5
        return self.now_s


@pytest.fixture
def room() -> Room:
    return Room()


async def test_a_pod_speaks_for_its_own_service(room: Room) -> None:
    room.server.status = proven()
    found = await room.it.authenticate(token())
    assert isinstance(found, Identity)
    assert (found.name, found.pod, found.service) == ("ml/llama-1", "ml/llama-1", "ml/llama")
    assert room.server.asked == [{"token": token(), "audiences": ["zerogate-stats"]}]


async def test_a_gateway_of_ours_speaks_for_all_and_its_namesake_elsewhere_does_not(room: Room) -> None:
    room.server.status = proven("zerogate-gateway", "system", "gateway-1")
    found = await room.it.authenticate(token())
    assert isinstance(found, Identity)
    assert (found.pod, found.service) == ("system/gateway-1", None)
    room.server.status = proven("zerogate-gateway", "ml", "")
    assert isinstance(await room.it.authenticate(token(salt="other")), Refused)


async def test_it_is_asked_once_as_long_as_the_token_lives(room: Room) -> None:
    room.server.status = proven()
    for _ in range(3):
        await room.it.authenticate(token(60.0))
    assert room.it.reviews == 1
    room.now_s += 61.0
    await room.it.authenticate(token(60.0))
    assert room.it.reviews == 2


async def test_a_long_lived_token_is_asked_about_again_and_a_withdrawn_one_refused(room: Room) -> None:
    room.server.status = proven()
    await room.it.authenticate(token(1e9))
    room.now_s += REMEMBERED_S
    room.server.status = {"authenticated": False}
    assert isinstance(await room.it.authenticate(token(1e9)), Refused)


@pytest.mark.parametrize(
    "status",
    [
        {"authenticated": False, "error": "it is expired"},
        proven(audiences=["somebody-else"]),
        proven(audiences=[]),
        {**proven(), "user": {"username": "system:admin"}},
        proven(pod=""),
        proven(pod="unknown"),
    ],
    ids=["unknown", "other audience", "no audience", "a user", "no pod", "a pod of nothing"],
)
async def test_what_proves_nothing(room: Room, status: dict[str, Any]) -> None:
    room.server.status = status
    found = await room.it.authenticate(token())
    assert isinstance(found, Refused)
    assert found.reason.endswith(".")


async def test_a_refusal_is_not_remembered_and_no_token_is_not_asked_about(room: Room) -> None:
    assert isinstance(await room.it.authenticate(""), Refused)
    assert room.it.reviews == 0
    room.server.is_away = True
    refused = await room.it.authenticate(token())
    assert isinstance(refused, Refused)
    assert refused.is_passing
    room.server.is_away, room.server.status = False, proven()
    assert isinstance(await room.it.authenticate(token()), Identity)


@pytest.mark.parametrize(
    ("off_s", "left_s"), [(0.0, 90.0), (600.0, LEAST_S), (-600.0, 100.0)], ids=["right", "early", "late"]
)
def test_the_time_of_a_good_token_does_not_hang_on_our_own_clock(off_s: float, left_s: float) -> None:
    claims = base64.urlsafe_b64encode(json.dumps({"exp": WALL_S + 90.0, "iat": WALL_S - 10.0}).encode()).decode()
    assert expires_in_s(f"head.{claims}.signature", WALL_S + off_s) == left_s


def test_a_token_says_itself_how_long_it_lives() -> None:
    assert expires_in_s(token(90.0), WALL_S) == 90.0
    for opaque in ("", "opaque", "a.b.c", "a.e30.c"):
        assert expires_in_s(opaque, WALL_S) == REMEMBERED_S
