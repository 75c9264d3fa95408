"""The README's figures are those of the last whole run."""

from pathlib import Path

import pytest

from bench.page import BEGIN, END, filled
from bench.table import Figure, at_most

MACHINE: dict[str, str | int] = {"cpu": "A CPU", "cores": 2, "python": "3.11.7"}
FOUND = {
    "wake": [at_most("first byte in", 1.26, 10, "ms")],
    "http2": [Figure(name="for developers", value="1 µs")],
    "warm": [
        Figure(name="CPU", value="1.63 × nginx", goal="≤ 1 × nginx", is_met=False, note="17 µs beside 10; 1.5 to 1.7"),
        Figure(name="CPU of a POST", value="1.71 × nginx", note="20 µs beside 12; and so on"),
    ],
}


def test_old_figures_give_way_and_what_is_around_them_stays() -> None:
    page = filled(f"# x\n{BEGIN}| old | | |\n{END}## Further\n", FOUND, MACHINE)
    assert page.startswith(f"# x\n{BEGIN}Measured on 2 shared cores (A CPU, Python 3.11.7)")
    assert page.endswith(
        "| first byte in | ≤ 10 ms | 1.3 ms |\n"
        "| CPU | ≤ 1 × nginx | 1.63 × nginx (17 µs beside 10), **missed** |\n"
        "| CPU of a POST | – | 1.71 × nginx (20 µs beside 12) |\n"
        f"{END}## Further\n"
    )
    assert "old" not in page
    assert filled(page, FOUND, MACHINE) == page


def test_a_page_without_a_place_for_them_is_told_and_stays() -> None:
    with pytest.raises(ValueError, match="figures"):
        filled("# x\n", FOUND, MACHINE)


def test_the_readme_has_a_place_for_them() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    assert "1.63 × nginx" in filled(readme, FOUND, MACHINE)
