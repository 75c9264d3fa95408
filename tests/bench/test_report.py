"""What the comparison concludes from its runs."""

import pytest

from bench.peers.report import absences, goals, markdown, ratio, table
from bench.peers.world import Found


def small(**cpu_us: list[float]) -> dict[str, Found]:
    """The load of small requests with these costs, turn by turn."""
    runs = {key: [{"cpu_us": each, "per_s": 1e6 / each, "busy_ratio": 1.0} for each in cpu_us[key]] for key in cpu_us}
    return {"small": Found(runs)}


def test_a_slow_minute_that_meets_both_sides_does_not_move_the_ratio() -> None:
    found = small(sidecar=[10, 20, 10], nginx=[10, 20, 40])
    assert ratio(found, "small", "cpu_us", "sidecar", "nginx") == 1.0


def test_a_ratio_to_someone_who_was_not_measured_is_no_number() -> None:
    assert ratio(small(sidecar=[10]), "small", "cpu_us", "sidecar", "nginx") is None


@pytest.mark.parametrize(("ours", "is_met"), [(3.3, True), (3.4, False)], ids=["at the goal", "over the goal"])
def test_a_goal_is_met_up_to_its_limit(ours: float, is_met: bool) -> None:
    figures = goals(small(sidecar=[ours], knative=[10.0]))
    judged = [figure.is_met for figure in figures if figure.goal == "≤ 0.33 × Knative" and "sidecar" in figure.name]
    assert judged == [is_met]


def test_a_goal_that_asks_for_more_is_missed_below_it() -> None:
    figures = goals(small(sidecar=[10.0], knative=[20.0]))
    rates = [figure for figure in figures if figure.name == "requests/s on one core, sidecar"]
    assert [figure.is_met for figure in rates] == [False]


def test_what_was_not_measured_is_neither_met_nor_missed_and_says_why() -> None:
    found = small(sidecar=[10.0])
    found["small"].give_up("knative", RuntimeError("go is missing"))
    figure = next(figure for figure in goals(found) if "Knative" in figure.goal)
    assert (figure.value, figure.is_met) == ("not available", None)
    assert "go is missing" in figure.note


def test_who_fails_in_one_turn_has_no_figure_at_all() -> None:
    found = small(sidecar=[10.0], nginx=[9.0])
    found["small"].give_up("nginx", RuntimeError("hung up"))
    assert table(found)[0] == ["figure", "unit", "zerogate, sidecar"]
    assert absences(found) == ["small: nginx: hung up"]


def test_the_page_marks_what_was_missed() -> None:
    page = markdown(small(sidecar=[9.0], knative=[10.0]), "Measured somewhere.")
    assert "| CPU per small GET, sidecar | ≤ 0.33 × Knative | 0.90 × Knative, **missed** |" in page
