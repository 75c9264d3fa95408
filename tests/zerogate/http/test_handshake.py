"""The opening handshake: what is an offer of a WebSocket, what is refused, and which 101 is believed."""

import pytest

from zerogate.http.handshake import accept_of, check_acceptance, mask_of, take_offer
from zerogate.http.heads import BadMessageError, Field, RequestHead
from zerogate.http.parse_heads import parse_request
from zerogate.http.write_heads import request_bytes

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""Both from RFC 6455 section 1.3."""

OFFER: list[Field] = [
    (b"Host", b"chat"),
    (b"Upgrade", b"websocket"),
    (b"Connection", b"keep-alive, Upgrade"),
    (b"Sec-WebSocket-Key", KEY),
    (b"Sec-WebSocket-Version", b"13"),
    (b"Sec-WebSocket-Extensions", b"permessage-deflate"),
]


def changed(**values: bytes | None) -> list[Field]:
    """The offer with other values; None takes the field out."""
    new = {name.replace("_", "-").lower().encode(): value for name, value in values.items()}
    kept = [(name, value) for name, value in OFFER if name.lower() not in new]
    return kept + [(name, value) for name, value in new.items() if value is not None]


def head_of(fields: list[Field], method: bytes = b"GET", version: str = "1.1") -> RequestHead:
    head = parse_request(method, b"/ws", version, fields, keep_alive=True)
    if head.upgrade is not None:
        take_offer(head)
    return head


def test_the_offer_goes_to_the_replica_with_its_key_and_its_extensions() -> None:
    head = head_of(OFFER)
    assert head.websocket_key == KEY
    lines = request_bytes(head, client=b"192.0.2.1").split(b"\r\n")
    assert {b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Key: " + KEY} <= set(lines)
    assert b"Sec-WebSocket-Extensions: permessage-deflate" in lines


def test_whatever_is_answered_the_connection_of_an_offer_takes_no_other_request() -> None:
    assert not head_of(OFFER).keep_alive


@pytest.mark.parametrize(
    ("fields", "version"),
    [
        pytest.param(changed(upgrade=b"h2c"), "1.1", id="another-protocol"),
        pytest.param(changed(connection=b"keep-alive"), "1.1", id="Connection-without-upgrade"),
        pytest.param(OFFER, "1.0", id="HTTP/1.0"),
    ],
)
def test_what_is_no_offer_is_a_plain_request_without_an_upgrade(fields: list[Field], version: str) -> None:
    head = head_of(fields, version=version)
    assert head.websocket_key is None
    assert head.keep_alive
    assert b"pgrade" not in request_bytes(head, client=b"192.0.2.1")


@pytest.mark.parametrize(
    ("fields", "method", "status", "what"),
    [
        pytest.param(OFFER, b"POST", 400, "GET", id="POST"),
        pytest.param([*OFFER, (b"Content-Length", b"3")], b"GET", 400, "no body", id="with-a-body"),
        pytest.param([*OFFER, (b"Transfer-Encoding", b"chunked")], b"GET", 400, "no body", id="chunked"),
        pytest.param(changed(sec_websocket_version=b"8"), b"GET", 426, "13", id="version-8"),
        pytest.param(changed(sec_websocket_version=None), b"GET", 426, "13", id="no-version"),
        pytest.param([*OFFER, (b"sec-websocket-version", b"8")], b"GET", 426, "13", id="two-versions"),
        pytest.param(changed(sec_websocket_key=None), b"GET", 400, "Key", id="no-key"),
        pytest.param(changed(sec_websocket_key=b"AAAA"), b"GET", 400, "Key", id="short-key"),
        pytest.param(changed(sec_websocket_key=KEY[:-1] + b"!"), b"GET", 400, "Key", id="no-base64"),
        pytest.param([*OFFER, (b"sec-websocket-key", KEY)], b"GET", 400, "one", id="two-keys"),
        pytest.param(
            changed(connection=b"upgrade, sec-websocket-key"), b"GET", 400, "Key", id="key-named-in-Connection"
        ),
    ],
)
def test_a_wrong_offer_is_refused(fields: list[Field], method: bytes, status: int, what: str) -> None:
    with pytest.raises(BadMessageError, match=what) as refused:
        head_of(fields, method)
    assert refused.value.status == status


def test_the_accept_answers_the_key_as_the_standard_says() -> None:
    assert accept_of(KEY) == ACCEPT
    assert len(mask_of(KEY)) == 4


GOOD: list[Field] = [(b"Upgrade", b"WebSocket"), (b"Connection", b"upgrade"), (b"Sec-WebSocket-Accept", ACCEPT)]


def test_a_right_101_is_believed() -> None:
    check_acceptance(GOOD, KEY)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param(GOOD[1:], id="no-Upgrade"),
        pytest.param([(b"Upgrade", b"h2c"), *GOOD[1:]], id="another-protocol"),
        pytest.param([GOOD[0], GOOD[2]], id="no-Connection"),
        pytest.param(GOOD[:2], id="no-Accept"),
        pytest.param([*GOOD, GOOD[2]], id="two-Accepts"),
        pytest.param([*GOOD[:2], (b"Sec-WebSocket-Accept", KEY)], id="wrong-Accept"),
    ],
)
def test_a_wrong_101_is_not_believed(fields: list[Field]) -> None:
    with pytest.raises(BadMessageError) as refused:
        check_acceptance(fields, KEY)
    assert refused.value.status == 502
