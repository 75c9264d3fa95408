"""What is asked about a workload whose pods do not come, and which Event answers it."""

import asyncio
from typing import Any, cast

import msgspec
import pytest

from tests.zerogate.kube.pods import policy
from zerogate.clock import wall
from zerogate.kube.catalog import Managed
from zerogate.kube.client import KubeClient
from zerogate.kube.decoding import Page
from zerogate.kube.errors import Asked, Forbidden
from zerogate.kube.objects import STATEFUL_SETS, Event
from zerogate.kube.times import second_time
from zerogate.kube.unmade import SKEW_S, Unmade, latest
from zerogate.tasks import Nursery

ENTRY = Managed(
    service="ml/llama", kind="StatefulSet", resource=STATEFUL_SETS, key=("ml", "llama"), uid="u", wanted=policy()
)


def event(note: str, **times: Any) -> dict[str, Any]:
    return {"metadata": {"name": "e"}, "reason": "FailedCreate", "note": note, **times}


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ([event("quota", deprecatedLastTimestamp="2026-01-01T10:00:00Z")], "quota"),
        ([event("quota", deprecatedLastTimestamp="2026-01-01T09:59:59Z")], ""),
        ([event("quota", eventTime="2026-01-01T10:00:00.250000Z")], "quota"),
        (
            [event("quota", eventTime="2026-01-01T08:00:00.000000Z",
                   series={"count": 2, "lastObservedTime": "2026-01-01T10:00:01.000000Z"})],
            "quota",
        ),
        (
            [event("new", deprecatedLastTimestamp="2026-01-01T10:00:09Z"),
             event("old", deprecatedLastTimestamp="2026-01-01T10:00:01Z")],
            "new",
        ),
        ([event("quota"), event("quota", eventTime=None), event("quota", eventTime="soon")], ""),
        ([], ""),
    ],
    ids=["since then", "before", "a new API's", "said again", "two", "without a time", "none"],
)  # fmt: skip
def test_it_is_the_last_one_since_the_pods_are_missing(events: list[dict[str, Any]], words: str) -> None:
    since_at_s = 1767261600.0  # 2026-01-01T10:00:00Z
    assert latest([msgspec.convert(one, Event) for one in events], since_at_s) == words


class Cluster:
    """Answers with what a test says."""

    def __init__(self) -> None:
        self.answers: list[Page | Exception] = []
        self.asked: list[tuple[str, str]] = []
        self.told: list[tuple[str, str]] = []

    async def page(self, _: object, *, namespace: str, fields: str, limit: int) -> Page:
        self.asked.append((namespace, fields))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def ask(self, missing_s: float, *answers: Page | Exception) -> None:
        self.answers = list(answers)
        nursery = Nursery()
        unmade = Unmade(cast(KubeClient, self), nursery, lambda service, words: self.told.append((service, words)))
        for _ in answers:
            unmade.ask([(ENTRY, missing_s)])
            for _ in range(3):  # it waits for nothing but the answer, which is there
                await asyncio.sleep(0)
        await nursery.aclose()
        assert not self.answers


def page(*events: dict[str, Any]) -> Page:
    return msgspec.json.decode(msgspec.json.encode({"items": events}), type=Page)


async def test_one_workloads_refusals_are_asked_for_and_told() -> None:
    it = Cluster()
    now_at_s = wall()
    recent = event("over a quota", deprecatedLastTimestamp=second_time(now_at_s - 5 - SKEW_S / 2))
    past = event("of another time", deprecatedLastTimestamp=second_time(now_at_s - 5 - 2 * SKEW_S))
    await it.ask(5.0, page(recent, past), page(past))
    assert it.asked[0] == ("ml", "regarding.kind=StatefulSet,regarding.name=llama,reason=FailedCreate")
    assert it.told == [("ml/llama", "over a quota"), ("ml/llama", "")]


async def test_without_the_right_nothing_is_told_and_it_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    it = Cluster()
    refused = Forbidden(Asked(verb="list", group="events.k8s.io", resource="events"), "x cannot list")
    elsewhere = Forbidden(Asked(verb="list", group="events.k8s.io", resource="events", namespace="b"), "x cannot list")
    await it.ask(5.0, refused, refused, elsewhere, page(), refused, elsewhere)
    assert it.told == [("ml/llama", "")]
    assert len(caplog.records) == 1
    await it.ask(5.0, page({"note": 5}))
    assert it.told == [("ml/llama", "")]
    assert "why ml/llama has no pods is not known" in caplog.text
