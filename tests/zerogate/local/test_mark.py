import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerogate.local.mark import Mark

words = st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"]), min_size=1)


graces = st.none() | st.integers(0, 10**8).map(lambda ms: ms / 1000)


@given(st.lists(words, min_size=1).map("/".join), words, words, words, st.integers(0, 65535), graces)
def test_a_mark_reads_back(
    instance: str, service: str, replica_id: str, definition_hash: str, port: int, stop_grace_s: float | None
) -> None:
    mark = Mark(
        instance=instance,
        service=service,
        replica_id=replica_id,
        definition_hash=definition_hash,
        port=port,
        stop_grace_s=stop_grace_s,
    )
    assert Mark.parse(str(mark)) == mark
    assert str(Mark.parse(str(mark))) == str(mark)


def test_a_mark_without_a_grace_is_one_of_an_earlier_zerogate() -> None:
    mark = Mark.parse("i/s/s-1/h/41001")
    assert mark == Mark(instance="i", service="s", replica_id="s-1", definition_hash="h", port=41001)
    assert str(mark) == "i/s/s-1/h/41001"


@pytest.mark.parametrize(
    "text", ["", "a/b/c/d", "a/b/c/d/x", "a//c/d/1", "a/b/c/d/", "a/b/c/d/-1", "a/b/c/d/1:", "a/b/c/d/1:x"]
)
def test_what_is_no_mark_is_none(text: str) -> None:
    assert Mark.parse(text) is None
