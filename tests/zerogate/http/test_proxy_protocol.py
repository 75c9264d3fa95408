import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerogate.http.proxy_protocol import LONGEST_V1, LONGEST_V2, SIGNATURE, ProxyHeader, ProxyHeaderError, parse

V4 = bytes([192, 0, 2, 7, 10, 0, 0, 1, 0xC3, 0x50, 0x1F, 0x90])
V6 = bytes.fromhex("20010db8000000000000000000000007") + bytes(15) + b"\x01" + bytes([0xC3, 0x50, 0x1F, 0x90])


def v2(command: int, family: int, block: bytes, *, version: int = 2) -> bytes:
    return SIGNATURE + bytes([version << 4 | command, family]) + len(block).to_bytes(2, "big") + block


@pytest.mark.parametrize(
    ("header", "client"),
    [
        pytest.param(b"PROXY TCP4 192.0.2.7 10.0.0.1 50000 8080\r\n", "192.0.2.7", id="v1 tcp4"),
        pytest.param(b"PROXY TCP6 2001:DB8::7 ::1 50000 8080\r\n", "2001:db8::7", id="v1 tcp6"),
        pytest.param(b"PROXY UNKNOWN\r\n", None, id="v1 unknown"),
        pytest.param(b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None, id="v1 unknown with addresses"),
        pytest.param(v2(1, 0x11, V4), "192.0.2.7", id="v2 tcp4"),
        pytest.param(v2(1, 0x21, V6), "2001:db8::7", id="v2 tcp6"),
        pytest.param(v2(1, 0x31, bytes(216)), None, id="v2 unix"),
        pytest.param(v2(0, 0x00, b""), None, id="v2 local"),
        pytest.param(v2(0, 0x11, V4), None, id="v2 local with addresses"),
        pytest.param(v2(1, 0x00, b"anything"), None, id="v2 unspecified"),
        pytest.param(v2(1, 0x11, V4 + b"\x03\x00\x04abcd"), "192.0.2.7", id="v2 with a TLV"),
    ],
)
def test_a_header_says_who_the_client_is_and_ends_where_it_ends(header: bytes, client: str | None) -> None:
    assert parse(header) == ProxyHeader(client, len(header))
    assert parse(header + b"GET / HTTP/1.1\r\n\r\n") == ProxyHeader(client, len(header))
    for end in range(len(header)):
        assert parse(header[:end]) is None, end


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"GET / HTTP/1.1\r\n", id="http"),
        pytest.param(b"\x16\x03\x01\x02\x00", id="tls"),
        pytest.param(b"PROXY TCP4 192.0.2.7 10.0.0.1 50000\r\n", id="v1 without a port"),
        pytest.param(b"PROXY TCP4 192.0.2.7 10.0.0.1 50000 8080 x\r\n", id="v1 with more"),
        pytest.param(b"PROXY TCP4 192.0.2.300 10.0.0.1 50000 8080\r\n", id="v1 no address"),
        pytest.param(b"PROXY TCP4 192.0.2.7 10.0.0 50000 8080\r\n", id="v1 no destination"),
        pytest.param(b"PROXY TCP4 ::1 ::1 50000 8080\r\n", id="v1 other family"),
        pytest.param(b"PROXY TCP4 192.0.2.7 10.0.0.1 65536 8080\r\n", id="v1 port too large"),
        pytest.param(b"PROXY TCP4 192.0.2.7 10.0.0.1 050 8080\r\n", id="v1 port with a zero before"),
        pytest.param(b"PROXY TCP4  192.0.2.7 10.0.0.1 50 8080\r\n", id="v1 two spaces"),
        pytest.param(b"PROXY UDP4 192.0.2.7 10.0.0.1 50 8080\r\n", id="v1 datagrams"),
        pytest.param(b"PROXY TCP4 192.0.2.7 10.0.0.1 50 8080\nx\r\n", id="v1 bare LF"),
        pytest.param(b"PROXY UNKNOWN" + b" " * LONGEST_V1 + b"\r\n", id="v1 too long"),
        pytest.param(b"proxy TCP4 192.0.2.7 10.0.0.1 50 8080\r\n", id="v1 small letters"),
        pytest.param(v2(1, 0x11, V4, version=1), id="v2 other version"),
        pytest.param(v2(2, 0x11, V4), id="v2 other command"),
        pytest.param(v2(1, 0x12, V4), id="v2 datagrams"),
        pytest.param(v2(1, 0x41, V4), id="v2 other family"),
        pytest.param(v2(1, 0x11, V4[:-1]), id="v2 too short"),
        pytest.param(v2(1, 0x21, V4), id="v2 too short for its family"),
        pytest.param(v2(1, 0x11, V4 + bytes(LONGEST_V2)), id="v2 too long"),
    ],
)
def test_what_is_no_header_is_refused(data: bytes) -> None:
    with pytest.raises(ProxyHeaderError):
        parse(data)


def test_a_header_that_will_be_too_long_is_refused_before_it_is_there() -> None:
    with pytest.raises(ProxyHeaderError):
        parse(SIGNATURE + b"\x21\x11\xff\xff")


@given(st.binary(max_size=600) | st.binary(max_size=300).map(lambda rest: SIGNATURE + rest)
       | st.binary(max_size=200).map(lambda rest: b"PROXY " + rest))  # fmt: skip
def test_any_bytes_are_a_header_refused_or_not_complete_yet(data: bytes) -> None:
    try:
        found = parse(data)
    except ProxyHeaderError:
        return
    if found is None:
        assert len(data) < LONGEST_V2
    else:
        assert 0 < found.size <= len(data)
        assert parse(data[: found.size]) == found


@given(st.binary(max_size=300), st.integers(0, 300))
def test_a_verdict_does_not_change_when_more_bytes_come(data: bytes, end: int) -> None:
    whole = SIGNATURE + b"\x21\x11" + data
    try:
        early = parse(whole[:end])
    except ProxyHeaderError:
        with pytest.raises(ProxyHeaderError):
            parse(whole)
        return
    if early is not None:
        assert parse(whole) == early
