"""One meaning or a refusal: the corpora, read whole and byte by byte."""

import pytest

from tests.zerogate.http.h1.corpus import REFUSED, REFUSED_BODIES, UNDERSTOOD, Meaning
from tests.zerogate.http.h1.reading import read

ALL_REFUSED = {**REFUSED, **REFUSED_BODIES}


@pytest.mark.parametrize(("data", "status"), ALL_REFUSED.values(), ids=ALL_REFUSED)
@pytest.mark.parametrize("size", [1, 7, 1 << 20], ids=["by-bytes", "by-sevens", "whole"])
def test_what_has_no_single_meaning_is_refused(data: bytes, status: int, size: int) -> None:
    if size == 1 and len(data) > 100_000:
        size = 100
    seen = read(data, size)
    assert (seen.status, seen.meanings) == (status, [])


@pytest.mark.parametrize(("data", "meanings"), UNDERSTOOD.values(), ids=UNDERSTOOD)
@pytest.mark.parametrize("size", [1, 7, 1 << 20], ids=["by-bytes", "by-sevens", "whole"])
def test_what_has_one_meaning_is_understood(data: bytes, meanings: list[Meaning], size: int) -> None:
    seen = read(data, size)
    assert (seen.status, seen.meanings) == (None, meanings)
