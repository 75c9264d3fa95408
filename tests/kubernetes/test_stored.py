"""Fields of stored objects set anew. That an API server reads the copies is what `test_scale.py` shows."""

import pytest

from tests.kubernetes import stored

ENVELOPE = b"k8s\x00" + stored.changed(b"", {1: b"\x0a\x02v1\x12\x03Pod", 2: stored.changed(b"", {1: "about", 9: 300})})


def test_a_field_is_replaced_and_the_others_stay_as_they_were() -> None:
    before = stored.changed(b"", {1: "old", 2: ["a", "b"], 3: 300})
    after = stored.changed(before, {2: ["c"], 4: b"\x00\xff"})
    assert [stored.part(after, number) for number in (1, 2, 4)] == [b"old", b"c", b"\x00\xff"]
    assert stored.changed(after, {2: None, 4: None}) == stored.changed(b"", {1: "old", 3: 300})


def test_zero_is_a_number_that_is_there() -> None:
    assert stored.changed(b"", {1: 0}) == b"\x08\x00"


@pytest.mark.parametrize("length", [0, 127, 128, 20_000])
def test_long_texts_are_read_back(length: int) -> None:
    assert stored.part(stored.changed(b"", {17: "x" * length, 1: "end"}), 17) == b"x" * length


def test_an_envelope_keeps_what_it_says_of_the_object_in_it() -> None:
    envelope, found = stored.opened(ENVELOPE)
    assert stored.part(found, 1) == b"about"
    again, other = stored.opened(stored.closed(envelope, stored.changed(found, {1: "other"})))
    assert (stored.part(again, 1), stored.part(other, 1)) == (b"\x0a\x02v1\x12\x03Pod", b"other")


def test_what_is_no_protobuf_of_an_api_server_is_refused() -> None:
    with pytest.raises(ValueError, match="not what an API server writes"):
        stored.opened(b'{"kind":"Pod"}')
