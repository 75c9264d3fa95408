"""The closing table says what was measured and nothing else."""

import msgspec

from cli.demo.figures import Figures, rows, seconds

FIGURES = Figures(
    hold_s=1.2642,
    start_s=1.26,
    cold_first_token_s=1.41,
    warm_first_token_s=0.0484,
    model_ran_s=9.2,
    lasted_s=11.5,
    memory_bytes=412 << 20,
)


def test_each_figure_has_its_row() -> None:
    shown = {name: figure for name, figure, _ in rows(FIGURES)}
    assert shown == {
        "time held": "1.26 s",
        "start": "1.26 s",
        "first token": "1.41 s",
        "warm first token": "48 ms",
        "memory": "412 MiB",
        "model ran": "9.2 s",
        "always on": "11.5 s",
    }


def test_what_was_spared_is_the_share_of_the_time_without_a_model() -> None:
    assert rows(FIGURES)[-1][2].startswith("20% spared")


def test_memory_that_could_not_be_read_is_left_out() -> None:
    unknown = msgspec.structs.replace(FIGURES, memory_bytes=None)
    assert "memory" not in [name for name, _, _ in rows(unknown)]


def test_seconds_below_one_are_shown_in_milliseconds() -> None:
    assert [seconds(0.0004), seconds(0.999), seconds(1.0)] == ["0 ms", "999 ms", "1.00 s"]
