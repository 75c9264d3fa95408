"""Who reports and who is expected to, where there is little room and where somebody comes back."""

import pytest

from autoscaler import presence
from autoscaler.presence import FORGOTTEN_S, SILENT_S, Presence


def test_who_said_goodbye_and_speaks_again_is_back() -> None:
    it = Presence()
    source = it.hear("a", "i", 0.0)
    assert source is not None
    it.leave("a", "i")
    assert it.is_absent(source, 0.0)
    it.hear("a", "i", 1.0)
    assert not it.is_absent(source, 1.0)


@pytest.mark.parametrize("is_gone", [False, True], ids=["still there", "gone meanwhile"])
def test_one_for_whom_there_was_no_room_is_expected_when_it_is_heard_if_it_is_still_listed(
    is_gone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "_MOST_SOURCES", 1)
    it = Presence()
    it.expect({"a": None, "b": None}, (), 0.0)
    assert it.get("b") is None
    it.expect({}, ["a", "b"] if is_gone else ["a"], 1.0)
    later_s = FORGOTTEN_S + 2.0
    source = it.hear("b", "i", later_s)
    assert source is not None
    assert source.is_listed is not is_gone
    assert it.is_absent(source, later_s + SILENT_S + 1.0) is is_gone
