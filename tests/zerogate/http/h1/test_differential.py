"""Where two parsers take the same bytes they mean the same: ours, h11 and nginx, on the corpora and on what mutation
makes of them.

Two parsers in a row that disagree about where a message ends are how requests are smuggled. What only one of them takes
is no danger, but each kind that we take and another refuses is named here with its reason.
"""

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import examples
from tests.zerogate.http.h1.corpus import REFUSED, REFUSED_BODIES, UNDERSTOOD, Meaning
from tests.zerogate.http.h1.reading import read

ONLY_OURS = {
    "an-empty-line-before": "h11 takes no empty line before a request; RFC 9112 section 2.2 asks servers to",
    "two-spaces-before-the-target": "RFC 9112 section 3 lets a server split the first line at white space",
    "two-spaces-behind-the-target": "the same",
}
"""Understood here, refused by h11."""

SEEDS = [data for data, _ in (*UNDERSTOOD.values(), *REFUSED.values(), *REFUSED_BODIES.values()) if len(data) < 500]
PIECES = [
    b"\r\n", b"\n", b"\r", b"\x00", b" ", b"\t", b"\x0b", b":", b",", b";", b"0", b"5", b"a", b"-1", b"+", b"0x",
    b"\r\n\r\n", b"Content-Length: 3\r\n", b"Content-Length:0\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: identity\r\n", b"Connection: close\r\n", b"Host: b\r\n", b"HTTP/1.0", b"GET / HTTP/1.1\r\n",
    b" RTSP/1.0\r\n",
    b"0\r\n\r\n", b"\xff", b"\x80", b"Expect: 100-continue\r\n", b"Upgrade: x\r\nConnection: upgrade\r\n",
]  # fmt: skip


def read_by_h11(data: bytes) -> tuple[list[Meaning], bool]:
    """The whole requests that h11 reads, and whether it refused something."""
    connection = h11.Connection(h11.SERVER)
    meanings: list[Meaning] = []
    connection.receive_data(data)
    request, body = None, b""
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError:
            return meanings, True
        if event is h11.NEED_DATA:
            return meanings, False
        if event is h11.PAUSED:
            if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                return meanings, False  # the connection ends with this request, or changes its protocol
            connection.start_next_cycle()
        elif isinstance(event, h11.Request):
            request, body = event, b""
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            assert request is not None
            host = next((value for name, value in request.headers if name == b"host"), b"")
            meanings.append((request.method, bytes(host), bytes(request.target), body))
            if request.method == b"CONNECT":
                return meanings, False  # what follows is no request any more
            connection.send(h11.Response(status_code=200, headers=[(b"content-length", b"0")]))
            connection.send(h11.EndOfMessage())
        else:
            return meanings, False


def without_authority(meanings: list[Meaning]) -> list[tuple[bytes, bytes]]:
    """Method and body of each: h11 leaves targets and hosts as they came."""
    return [(method, body) for method, _, _, body in meanings]


@pytest.mark.parametrize(("name", "data"), [(name, data) for name, (data, _) in UNDERSTOOD.items()], ids=UNDERSTOOD)
def test_what_is_understood_here_h11_understands_the_same_way(name: str, data: bytes) -> None:
    meanings, is_refused = read_by_h11(data)
    assert is_refused == (name in ONLY_OURS)
    if not is_refused:
        assert without_authority(meanings) == without_authority(read(data).meanings)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A request of the corpora with pieces put in, taken out, or doubled."""
    data = draw(st.sampled_from(SEEDS))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        until = min(len(data), at + draw(st.integers(0, 12)))
        middle = draw(st.one_of(st.sampled_from([b"", data[at:until] * 2]), st.sampled_from(PIECES)))
        data = data[:at] + middle + data[until:]
    return data


@settings(max_examples=examples(1000), deadline=None)
@pytest.mark.fuzz
@given(mutated(), st.integers(1, 40))
def test_requests_that_both_take_end_in_the_same_place(data: bytes, size: int) -> None:
    ours = without_authority(read(data, size).meanings)
    theirs = without_authority(read_by_h11(data)[0])
    common = min(len(ours), len(theirs))
    assert ours[:common] == theirs[:common]


@settings(max_examples=examples(300), deadline=None)
@pytest.mark.fuzz
@given(mutated(), st.integers(1, 40))
def test_the_pieces_in_which_bytes_come_change_nothing(data: bytes, size: int) -> None:
    assert read(data, size) == read(data)
