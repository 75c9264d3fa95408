import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerogate.local.mark import Mark

words = st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"]), min_size=1)


@given(st.lists(words, min_size=1).map("/".join), words, words, words, st.integers(0, 65535))
def test_a_mark_reads_back(instance: str, service: str, replica_id: str, definition_hash: str, port: int) -> None:
    mark = Mark(instance=instance, service=service, replica_id=replica_id, definition_hash=definition_hash, port=port)
    assert Mark.parse(str(mark)) == mark


@pytest.mark.parametrize("text", ["", "a/b/c/d", "a/b/c/d/x", "a//c/d/1", "a/b/c/d/", "a/b/c/d/-1"])
def test_what_is_no_mark_is_none(text: str) -> None:
    assert Mark.parse(text) is None
