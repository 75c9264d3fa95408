"""A request's head toward a replica says the same over HTTP/2 as over HTTP/1.1, which has tests of its own."""

import itertools
from typing import Any

import pytest

from tests.zerogate.http.dialogue import request
from zerogate.http.h2.replica_heads import request_fields
from zerogate.http.heads import UNIX_PEER, RequestHead
from zerogate.http.write_heads import request_bytes

IDENTITY = b"X-Forwarded-Client-Cert: Hash=aa\r\n"
FORWARDED: dict[str, Any] = {
    "X-Forwarded-For": "198.51.100.1",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "front.test",
}
HEADS: dict[str, RequestHead] = {
    "bare": request(),
    "with fields": request("DELETE", accept="a", cookie="b=c", X_A="d: e, f"),
    "with a body": request("POST", body=5, content_type="text/plain"),
    "through others": request(Forwarded="for=198.51.100.1;proto=https", **FORWARDED),
    "with trailers": request(TE="trailers", Connection="TE"),
}
CLIENTS = {"v4": b"192.0.2.1", "v6": b"2001:db8::1", "unix": UNIX_PEER}


def as_http1(data: bytes) -> tuple[bytes, bytes, dict[bytes, bytes]]:
    first, *lines = data.rstrip(b"\r\n").split(b"\r\n")
    method, path, _ = first.split(b" ")
    fields = dict(line.split(b": ", 1) for line in lines)
    return method, path, {name.lower(): value for name, value in fields.items()}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)
def test_both_versions_tell_a_replica_the_same(head: RequestHead, client: bytes) -> None:
    for host, proto, identity in itertools.product((None, b"one.test"), (b"http", b"https"), (b"", IDENTITY)):
        way: dict[str, Any] = {"client": client, "host": host, "proto": proto, "identity": identity}
        method, path, older = as_http1(request_bytes(head, **way))
        newer = {name: value for name, value, _ in request_fields(head, **way)}
        assert (newer.pop(b":method"), newer.pop(b":path"), newer.pop(b":scheme")) == (method, path, b"http")
        assert newer.pop(b":authority") == older.pop(b"host") == (host or head.host)
        assert newer.pop(b"te", None) == (b"trailers" if head.accepts_trailers else None)  # HTTP/1.1 sends them unasked
        assert newer == older
