"""What is noted on workloads comes back as it was, and nonsense as nothing."""

import pytest

from autoscaler.cluster.records import (
    LEARNED,
    learned_text,
    pin_of,
    saved_of,
)
from autoscaler.decision import Pin
from autoscaler.status import Saved
from zerogate.kube.catalog import recorded_replicas
from zerogate.kube.keys import REPLICAS
from zerogate.kube.pins import PIN, pin_text


@pytest.mark.parametrize("pin", [Pin(replicas=0), Pin(replicas=3), Pin(replicas=2, until_wall_s=1_790_000_000.0)])
def test_a_pin_comes_back(pin: Pin) -> None:
    assert pin_of({PIN: pin_text(pin.replicas, pin.until_wall_s)}) == pin


def test_a_pin_can_be_read_by_people() -> None:
    assert pin_text(2, 1_790_000_000.4) == '{"replicas":2,"until":"2026-09-21T14:13:20Z"}'


@pytest.mark.parametrize(
    "text", ["", "2", "{}", '{"replicas":-1}', '{"replicas":2,"until":"tomorrow"}', '{"replicas":1000000}']
)
def test_a_pin_that_cannot_be_read_is_none(text: str) -> None:
    assert pin_of({PIN: text}) is None


def test_what_was_learned_comes_back_to_a_tenth_of_a_second() -> None:
    saved = Saved(boots_s=(120.04, 98.7), completed_s=33.33, completions=12.0)
    assert saved_of({LEARNED: learned_text(saved)}) == Saved(boots_s=(120.0, 98.7), completed_s=33.3, completions=12.0)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"boots_s": "x"}', '{"boots_s": [-1]}', '{"run_s": 1e300}'])
def test_nonsense_teaches_nothing(text: str) -> None:
    assert saved_of({LEARNED: text}) == Saved()
    assert saved_of(None) == Saved()


@pytest.mark.parametrize(
    ("text", "number"), [("2", 2), ("0", 0), ("", None), ("-1", None), ("x", None), ("1" * 8, None)]
)
def test_the_number_before(text: str, number: int | None) -> None:
    assert recorded_replicas({REPLICAS: text}) == number
