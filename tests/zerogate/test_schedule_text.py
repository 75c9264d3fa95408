import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerogate.errors import DefinitionError
from zerogate.openings import Cron, Weekly
from zerogate.schedule_text import parse_window


@pytest.mark.parametrize(
    ("text", "when"),
    [
        ("Mon-Fri 08:00-18:00 Asia/Shanghai = 2", Weekly((0, 1, 2, 3, 4), 480, 1080)),
        ("Fri 22:00-02:00 UTC = 1", Weekly((4,), 1320, 1560)),
        ("Mon,Wed 09:00-12:00 UTC=1", Weekly((0, 2), 540, 720)),
        ("Sat-Mon 09:00-24:00 UTC = 1", Weekly((0, 5, 6), 540, 1440)),
        ("Mon,Sat-Sun 09:00-12:00 UTC = 1", Weekly((0, 5, 6), 540, 720)),
        ("daily 00:00-24:00 UTC = 1", Weekly((0, 1, 2, 3, 4, 5, 6), 0, 1440)),
        ("cron(0 22 * * *) for 4h Europe/Berlin = 1", Cron("0 22 * * *", 14400)),
        ("cron( 0  8 * *  mon-fri ) for 1h30m UTC = 1", Cron("0 8 * * mon-fri", 5400)),
    ],
)
def test_a_window_says_when(text: str, when: Weekly | Cron) -> None:
    assert parse_window(text).when == when


def test_a_window_has_a_floor_and_perhaps_a_ceiling() -> None:
    plain, bounded = parse_window("daily 08:00-09:00 UTC = 3"), parse_window("daily 08:00-09:00 UTC = 0..1")
    assert (plain.floor, plain.ceiling, plain.zone) == (3, None, "UTC")
    assert (bounded.floor, bounded.ceiling) == (0, 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no '='"),
        ("daily 08:00-09:00 UTC", "no '='"),
        ("daily 08:00-09:00 = 1", "names no time zone"),
        ("daily 08:00-09:00 UTC = x", "is not a number of replicas"),
        ("daily 08:00-09:00 UTC = -1", "is not a number of replicas"),
        ("daily 08:00-09:00 UTC = 3..1", "floor 3 is above the ceiling 1"),
        ("daily 08:00-09:00 UTC = 99999", "more than 10000"),
        ("mon 08:00-09:00 UTC = 1", "Days are Mon"),
        ("Monday 08:00-09:00 UTC = 1", "Days are Mon"),
        ("daily 8:00-09:00 UTC = 1", '"8:00" is not a time'),
        ("daily 08:00-24:01 UTC = 1", '"24:01" is not a time'),
        ("daily 24:00-08:00 UTC = 1", "begins at 24:00"),
        ("daily 08:00-08:00 UTC = 1", "nothing or a whole day"),
        ("Mon,Mon 08:00-09:00 UTC = 1", "a day twice"),
        ("Mon-Wed,Tue 08:00-09:00 UTC = 1", "a day twice"),
        ("daily 08:00-09:00 Europe/Berlni = 1", "Did you mean Europe/Berlin"),
        ("daily 08:00-09:00 ../../etc/passwd = 1", "not a known time zone"),
        ("daily 08:00-09:00 /etc/localtime = 1", "not a known time zone"),
        ("daily 08:00-09:00 localtime = 1", "not a known time zone"),
        ("daily 08:00-09:00 CST = 1", "not a known time zone. Write an IANA name"),
        ("cron(0 22 * *) for 4h UTC = 1", "five fields"),
        ("cron(0 0 22 * * *) for 4h UTC = 1", "five fields"),
        ("cron(61 22 * * *) for 4h UTC = 1", "Bad minute"),
        ("cron(0 22 * * *) for 4 UTC = 1", "has no unit"),
        ("cron(0 22 * * *) for 30s UTC = 1", "out of range"),
        ("cron(0 22 * * *) for 90d UTC = 1", "out of range"),
        ("cron(0 22 * * *) for 4h = 1", "names no time zone"),
        ("cron(0 0 30 2 *) for 4h UTC = 1", "cron(0 0 30 2 *)"),
        ("cron(0 0 31 2,4 */7) for 4h UTC = 1", "cron(0 0 31 2,4 */7)"),
        ("every day", "no '='"),
        ("every day = 1", "is not a window"),
        ("Mon-Fri 08:00\u201318:00 UTC = 1", "has the dash \u2013 where a hyphen belongs. Write - instead"),
        ("x" * 301 + " = 1", "longer than 300"),
    ],
)
def test_a_mistake_is_refused_and_named(text: str, said: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        parse_window(text)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "cron(0 8 * * *) until cron(0 18 * * *) UTC = 1",
        "2026-12-24..2026-12-26 UTC = 0..1",
        "daily 08:00-09:00 UTC = freeze",
        "except 2026-10-01..2026-10-07 UTC = 0",
        "daily 08:00-09:00 UTC except 2026-10-01 = 1",
        "daily 08:00-09:00 UTC ramp 10m = 1",
        "daily 08:00-09:00 UTC = 2 ramp 10m",
        "daily 08:00-09:00 UTC = 2 lead 0",
    ],
)
def test_what_later_versions_know_is_told_apart_from_a_mistake(text: str) -> None:
    with pytest.raises(DefinitionError, match="not available in this version") as caught:
        parse_window(text)
    assert "weekly windows" in caught.value.hint


@given(st.text(alphabet="daily MonSu08:-19=.()*/cronfr4hUTC,L#WE", max_size=40), st.integers(0, 3))
def test_no_text_is_answered_with_anything_but_a_definition_error(text: str, shape: int) -> None:
    texts = (text, f"{text} = 1", f"cron({text}) for 1h UTC = 1", f"daily {text} UTC = 1")
    with contextlib.suppress(DefinitionError):
        assert parse_window(texts[shape]).zone
