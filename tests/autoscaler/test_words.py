"""How durations and amounts are said."""

import pytest

from autoscaler.words import count, quantity, spell


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0, "0s"), (-1.0, "0s"), (0.4, "0.4s"), (9.0, "9s"), (9.96, "10s"), (59.2, "1m"), (252.0, "4m 12s"),
        (300.0, "5m"), (7500.0, "2h 5m"), (3600.0, "1h"), (280_800.0, "3d 6h"),
    ],
)  # fmt: skip
def test_durations(seconds: float, said: str) -> None:
    assert spell(seconds) == said


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (0.0, "0"),
        (0.0001, "under 0.001"),
        (0.002, "0.002"),
        (2.5, "2.5"),
        (10.0, "10"),
        (83.33, "83.3"),
        (12345.6, "12346"),
    ],
)
def test_quantities(number: float, said: str) -> None:
    assert quantity(number) == said


def test_counts() -> None:
    assert (count(1, "replica"), count(3, "replica")) == ("1 replica", "3 replicas")
