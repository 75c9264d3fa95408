"""Whose a token is: asked once, remembered for as long as it lives, and no more than it proves."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from autoscaler.cluster.identities import Identities
from autoscaler.cluster.reviews import LEAST_S, REMEMBERED_S, expires_in_s
from autoscaler.cluster.token_keys import DISCOVERY, TokenKeys
from autoscaler.identity import Identity, Refused
from tests.autoscaler.cluster import signed
from zerogate.kube.client import KubeClient
from zerogate.kube.errors import Asked, Forbidden, Unreachable
from zerogate.tasks import Nursery

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
        {**proven(), "user": {**proven()["user"], "username": "oidc:serviceaccount:ml:default"}},
        proven(pod=""),
        proven(pod="unknown"),
    ],
    ids=["unknown", "other audience", "no audience", "a user", "a user with such a name", "no pod", "a pod of nothing"],
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


class Keyed(Server):
    """A server that also tells its keys; it answers reviews when `is_open`."""

    def __init__(self) -> None:
        super().__init__()
        self.keys = [SIGNER.jwk()]
        self.fetched = 0
        self.hides_keys = False
        self.is_open = asyncio.Event()
        self.is_open.set()

    async def request(self, method: str, path: str, *, asked: Asked, body: Any = None, **more: Any) -> bytes:
        if method == "POST":
            await self.is_open.wait()
            return await super().request(method, path, asked=asked, body=body, **more)
        if self.hides_keys:
            raise Forbidden(asked, f'User "zerogate" cannot get path "{path}"', status=403)
        if self.is_away:
            raise Unreachable(asked, "gone")
        self.fetched += 1
        return signed.discovery() if path == DISCOVERY else signed.jwks(*self.keys)


class KeyedRoom:
    def __init__(self) -> None:
        self.server = Keyed()
        self.now_s = 100.0
        self.wall_s = signed.WALL_S
        self.pods = {("ml", "llama-1", "u1"): "ml/llama"}
        self.gateways = {("system", "gateway-1", "g1")}
        self.withdrawn: list[bytes] = []
        self.was_withdrawn = asyncio.Event()
        self.keys = TokenKeys(self.server, audience=signed.AUDIENCE, clock=self.clock, calendar=lambda: self.wall_s)
        self.it = Identities(
            self.server, lambda *pod: self.pods.get(pod), home="system", audience=signed.AUDIENCE,
            reporters=("zerogate-gateway",), keys=self.keys, is_ours=lambda *pod: pod in self.gateways,
            on_withdrawn=self.withdraw, clock=self.clock, calendar=lambda: self.wall_s,
        )  # fmt: skip

    def clock(self) -> float:
        self.now_s += 0.5
        return self.now_s

    def withdraw(self, token_id: bytes, why: Refused) -> None:
        assert why.reason
        self.withdrawn.append(token_id)
        self.was_withdrawn.set()

    @asynccontextmanager
    async def confirming(self) -> AsyncIterator[None]:
        nursery = Nursery()
        nursery.start(self.it.confirm(), name="confirm")
        yield
        await nursery.aclose()

    async def until_confirmed(self) -> None:
        async with asyncio.timeout(30), self.confirming():
            while self.it.doubted or not self.it.reviews:
                await asyncio.sleep(0)
            await asyncio.sleep(0.01)


SIGNER, STRANGER = signed.Signer(), signed.Signer()


@pytest.fixture
async def keyed() -> KeyedRoom:
    room = KeyedRoom()
    await room.keys.fetch()
    return room


async def test_a_pod_that_is_there_is_believed_before_the_server_is_asked(keyed: KeyedRoom) -> None:
    token = SIGNER.token()
    found = await keyed.it.authenticate(token)
    assert isinstance(found, Identity)
    assert (found.name, found.pod, found.service) == ("ml/llama-1", "ml/llama-1", "ml/llama")
    assert 3600.0 - 5 < found.expires_s - keyed.now_s <= 3600.0
    assert (keyed.it.reviews, keyed.it.doubted) == (0, 1)
    keyed.server.status = proven()
    await keyed.until_confirmed()
    assert (keyed.it.reviews, keyed.withdrawn) == (1, [])
    await keyed.it.authenticate(token)
    assert keyed.it.doubted == 0, "what the server has said is remembered"


async def test_a_clock_that_is_late_gives_a_token_no_longer_life_than_it_has(keyed: KeyedRoom) -> None:
    keyed.wall_s = signed.WALL_S - 69.0
    found = await keyed.it.authenticate(SIGNER.token())
    assert isinstance(found, Identity)
    assert found.expires_s - keyed.now_s <= 3660.0


async def test_an_account_without_a_pod_is_refused_at_once(room: Room) -> None:
    room.server.status = proven(pod="")
    found = await room.it.authenticate(token())
    assert isinstance(found, Refused)
    assert "may not report" in found.reason


async def test_who_shows_a_token_again_before_it_was_judged_costs_no_second_review(keyed: KeyedRoom) -> None:
    token = SIGNER.token()
    for _ in range(3):
        assert isinstance(await keyed.it.authenticate(token), Identity)
    keyed.server.status = proven()
    await keyed.until_confirmed()
    assert keyed.it.reviews == 1


async def test_what_the_server_refuses_afterwards_is_taken_back_and_not_believed_again(keyed: KeyedRoom) -> None:
    token = SIGNER.token()
    found = await keyed.it.authenticate(token)
    assert isinstance(found, Identity)
    keyed.server.status = {"authenticated": False, "error": "its account was deleted"}
    async with asyncio.timeout(30), keyed.confirming():
        await keyed.was_withdrawn.wait()
    assert keyed.withdrawn == [found.token_id]
    again = await keyed.it.authenticate(token)
    assert isinstance(again, Refused)
    assert (keyed.it.reviews, keyed.it.withdrawn) == (2, 1)


async def test_a_refused_token_is_not_believed_with_its_signature_written_in_another_way(keyed: KeyedRoom) -> None:
    token = SIGNER.token()
    assert isinstance(await keyed.it.authenticate(token), Identity)
    keyed.server.status = {"authenticated": False}
    async with asyncio.timeout(30), keyed.confirming():
        await keyed.was_withdrawn.wait()
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for bits in range(4):
        other = token[:-1] + letters[letters.index(token[-1]) & ~3 | bits]
        assert isinstance(await keyed.it.authenticate(other), Refused)
    assert keyed.it.doubted == 0


async def test_a_server_that_is_away_takes_nothing_back_and_is_asked_again(
    keyed: KeyedRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autoscaler.cluster.identities._SERVER_AGAIN_S", 0.01)
    keyed.server.is_away = True
    assert isinstance(await keyed.it.authenticate(SIGNER.token()), Identity)
    async with asyncio.timeout(30), keyed.confirming():
        while keyed.it.reviews < 3:
            await asyncio.sleep(0.01)
        assert keyed.withdrawn == []
        keyed.server.is_away, keyed.server.status = False, {"authenticated": False}
        await keyed.was_withdrawn.wait()


async def test_a_gateway_whose_pod_lives_is_believed_at_once(keyed: KeyedRoom) -> None:
    token = SIGNER.token(**signed.body("zerogate-gateway", "system", "gateway-1", "g1"))
    found = await keyed.it.authenticate(token)
    assert isinstance(found, Identity)
    assert (found.pod, found.service, keyed.it.reviews) == ("system/gateway-1", None, 0)


@pytest.mark.parametrize(
    "claims",
    [
        signed.body(uid="the one before"),
        signed.body(pod="unknown"),
        signed.body(namespace="other"),
        signed.body("zerogate-gateway", "system", "gateway-1", "the one before"),
        signed.body("zerogate-gateway", "system", "llama-1", "u1"),
        {"aud": ["https://kubernetes.default.svc"]},
        {"exp": signed.WALL_S - 1},
    ],
    ids=["another uid", "no pod", "another namespace", "a gateway that is gone", "no gateway", "another audience",
         "expired"],
)  # fmt: skip
async def test_what_the_keys_do_not_prove_is_shown_to_the_server_first(
    keyed: KeyedRoom, claims: dict[str, Any]
) -> None:
    keyed.server.status = {"authenticated": False}
    assert isinstance(await keyed.it.authenticate(SIGNER.token(**claims)), Refused)
    assert (keyed.it.reviews, keyed.it.doubted) == (1, 0)


async def test_a_forged_token_is_refused_without_a_question(keyed: KeyedRoom) -> None:
    found = await keyed.it.authenticate(STRANGER.token())
    assert isinstance(found, Refused)
    assert not found.is_passing
    assert keyed.it.reviews == 0


@pytest.mark.parametrize("why", ["hidden", "away", "empty"])
async def test_without_keys_the_server_judges_first(why: str) -> None:
    room = KeyedRoom()
    room.server.hides_keys = why == "hidden"
    room.server.is_away = why == "away"
    if why == "empty":
        room.server.keys = []
    await room.keys.fetch()
    assert not room.keys.are_known
    room.server.is_away, room.server.status = False, proven()
    assert isinstance(await room.it.authenticate(SIGNER.token()), Identity)
    assert (room.it.reviews, room.it.doubted) == (1, 0)


async def test_keys_that_are_not_told_any_more_are_believed_no_more_and_those_of_before_an_outage_are(
    keyed: KeyedRoom,
) -> None:
    keyed.server.is_away = True
    await keyed.keys.fetch()
    assert keyed.keys.are_known
    keyed.server.is_away, keyed.server.hides_keys = False, True
    await keyed.keys.fetch()
    assert not keyed.keys.are_known


async def test_a_key_that_is_not_known_is_asked_for_soon_and_not_each_time(
    keyed: KeyedRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autoscaler.cluster.token_keys.AGAIN_S", 0.0)
    renewed = signed.Signer("two")
    keyed.server.keys.append(renewed.jwk())
    keyed.server.status = proven()
    before = keyed.server.fetched
    nursery = Nursery()
    nursery.start(keyed.keys.run(), name="keys")
    await asyncio.sleep(0)
    assert keyed.server.fetched == before, "nobody asked for any"
    assert isinstance(await keyed.it.authenticate(renewed.token()), Identity)
    async with asyncio.timeout(30):
        while keyed.keys.judge(renewed.token()) == "unknown":
            await asyncio.sleep(0)
    await nursery.aclose()
    assert keyed.it.reviews == 1


async def test_whoever_makes_keys_up_costs_few_requests(keyed: KeyedRoom, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoscaler.cluster.token_keys.AGAIN_S", 100.0)
    made_up = signed.Signer("made up").token()
    nursery = Nursery()
    keyed.keys.judge(made_up)
    nursery.start(keyed.keys.run(), name="keys")
    before = keyed.server.fetched
    for _ in range(100):
        keyed.keys.judge(made_up)
        await asyncio.sleep(0)
    assert keyed.server.fetched == before
    await nursery.aclose()


async def test_one_unknown_key_is_asked_for_once(keyed: KeyedRoom, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoscaler.cluster.token_keys.AGAIN_S", 0.0)
    nursery = Nursery()
    nursery.start(keyed.keys.run(), name="keys")
    before = keyed.server.fetched
    keyed.keys.judge(signed.Signer("made up").token())
    for _ in range(100):
        await asyncio.sleep(0)
    assert keyed.server.fetched == before + 2, "what is said of the issuer, and its keys"
    await nursery.aclose()


async def test_no_more_tokens_are_believed_before_the_server_has_judged_them_than_are_remembered(
    keyed: KeyedRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autoscaler.cluster.identities._MOST_REMEMBERED", 2)
    keyed.server.status = proven()
    for number in range(3):
        assert isinstance(await keyed.it.authenticate(SIGNER.token(jti=str(number))), Identity)
    assert (keyed.it.doubted, keyed.it.reviews) == (2, 1), "the third was shown to it first"


@pytest.mark.parametrize("remembered", ["_proven", "_wrong"])
async def test_what_was_said_of_tokens_is_remembered_of_so_many_alone(
    keyed: KeyedRoom, monkeypatch: pytest.MonkeyPatch, remembered: str
) -> None:
    monkeypatch.setattr("autoscaler.cluster.identities._MOST_REMEMBERED", 2)
    keyed.server.status = proven() if remembered == "_proven" else {"authenticated": False}
    async with asyncio.timeout(30), keyed.confirming():
        for number in range(4):
            await keyed.it.authenticate(SIGNER.token(jti=str(number)))
            while keyed.it.doubted or keyed.it.reviews <= number:
                await asyncio.sleep(0)
            await asyncio.sleep(0.01)
    assert len(getattr(keyed.it, remembered)) == 2


async def test_for_whom_the_server_has_no_time_now_is_told_when_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoscaler.cluster.identities._MOST_WAITING", 2)
    room = KeyedRoom()
    room.server.status = proven()
    room.server.is_open.clear()
    async with asyncio.TaskGroup() as group:
        for salt in "ab":
            group.create_task(room.it.authenticate(token(salt=salt)))
        await asyncio.sleep(0)
        put_off = [await room.it.authenticate(token(salt=salt)) for salt in "cd"]
        room.server.is_open.set()
    assert all(isinstance(one, Refused) and one.is_passing and one.come_again_s > 0.0 for one in put_off)
    assert isinstance(await room.it.authenticate(token(salt="c")), Identity)
