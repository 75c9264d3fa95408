"""Our binding of the native coder against the pure one of `hpack`."""

import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import examples
from zerogate.http.h2.frames import COMPRESSION_ERROR, ENHANCE_YOUR_CALM, ViolationError
from zerogate.http.h2.hpack import Decoder, Encoder, list_bytes

LIMIT = 64 * 1024
fields = st.lists(st.tuples(st.binary(min_size=1, max_size=30), st.binary(max_size=200)), max_size=20)
lists = st.lists(fields, min_size=1, max_size=5)


@settings(max_examples=examples(100), deadline=None)
@given(lists=lists, sizes=st.lists(st.integers(0, 6000), min_size=5, max_size=5))
def test_what_we_encode_the_other_one_reads(lists: list[list[tuple[bytes, bytes]]], sizes: list[int]) -> None:
    ours, theirs = Encoder(), hpack.Decoder()
    for one, size in zip(lists, sizes, strict=False):
        ours.resize(size)
        theirs.max_allowed_table_size = max(size, 4096)
        block = ours.encode([(name, value, False) for name, value in one])
        assert [tuple(field) for field in theirs.decode(block, raw=True)] == one


@settings(max_examples=examples(100), deadline=None)
@given(lists=lists)
def test_what_the_other_one_encodes_we_read(lists: list[list[tuple[bytes, bytes]]]) -> None:
    theirs, ours = hpack.Encoder(), Decoder(LIMIT)
    for one in lists:
        assert [(name, value) for name, value, _ in ours.decode(theirs.encode(one))] == one


@settings(max_examples=examples(300), deadline=None)
@given(block=st.binary(max_size=60))
def test_garbage_is_refused_or_read_as_the_other_one_reads_it(block: bytes) -> None:
    try:
        ours = [(name, value) for name, value, _ in Decoder(LIMIT).decode(block)]
    except ViolationError:
        return
    try:
        theirs = [tuple(field) for field in hpack.Decoder().decode(block, raw=True)]
    except hpack.HPACKError:
        return  # padding of a Huffman code that is not all ones: taken by ours, and known
    assert ours == theirs


def test_several_sizes_between_two_blocks_are_announced_as_the_smallest_and_the_last() -> None:
    encoder = Encoder()
    encoder.encode([(b"x-a", b"1", False)])
    for size in (1000, 0, 70_000):
        encoder.resize(size)
    assert encoder.encode([(b"x-a", b"1", False)]).startswith(b"\x20\x3f\xe1\x1f\x40")


def test_what_must_never_be_in_a_table_is_not() -> None:
    encoder = Encoder()
    first = encoder.encode([(b"authorization", b"Bearer x", True)])
    assert first == encoder.encode([(b"authorization", b"Bearer x", True)])
    assert first[0] & 0xF0 == 0x10


def test_fields_beyond_the_limit_are_refused_while_they_are_unpacked() -> None:
    block = hpack.Encoder().encode([(b"x-a", b"v" * 3000)]) + b"\xbe" * 30
    with pytest.raises(ViolationError) as caught:
        Decoder(LIMIT).decode(block)
    assert caught.value.code == ENHANCE_YOUR_CALM


@pytest.mark.parametrize(
    "block",
    [b"\x80", b"\xff\xff\xff\xff\xff\xff\x0f", b"\x40\x05ab", b"\x82\x3f\x01", b"\x0b", b"\x40", b"\x41\x7f", b"\xff"],
    ids=["index 0", "number", "name", "size behind", "no value", "no name", "no length", "no end of an index"],
)
def test_a_broken_block_is_a_compression_error(block: bytes) -> None:
    with pytest.raises(ViolationError) as caught:
        Decoder(LIMIT).decode(block)
    assert caught.value.code == COMPRESSION_ERROR


def test_a_list_is_as_large_as_settings_count_it() -> None:
    assert list_bytes([(b"ab", b"cde", False), (b"", b"", True)]) == 5 + 64
