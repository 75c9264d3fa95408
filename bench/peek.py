"""Speed of the two peeks and of routing: `python -m bench.peek`.

Figures are the best of several runs, because the machine is shared. That holds for the longest single call too: for
each call of a run the best time it ever took, and of these the longest.
"""

import base64
import json
import random
import time
from collections.abc import Callable, Iterator

from gateway.model_peek import ModelPeek
from gateway.multipart_peek import MultipartPeek
from gateway.peeked import Peek
from gateway.route_table import Route
from gateway.router import Router

CHUNK_BYTES = 256 * 1024
RUNS = 5


def json_bodies() -> Iterator[tuple[str, bytes]]:
    """Bodies that clients send, then bodies that are meant to be slow."""
    image = base64.b64encode(random.Random(1).randbytes(15 * 1024 * 1024)).decode()
    part = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}}
    message = {"role": "user", "content": "The quick brown fox jumps over the lazy dog. " * 4, "n": [1, 2, 3]}
    code = {"role": "tool", "content": json.dumps({f"k{i}": [i, "x"] for i in range(20)})}
    text = {"role": "user", "content": 'Ein längerer Text mit "Zitaten" und\nZeilen. ' * 4000}
    yield "one 20 MiB base64 image", _body({"messages": [{"role": "user", "content": [part]}]})
    yield "chat, short messages", _body({"messages": [message] * 12_000})
    yield "tool calls, dense escapes", _body({"messages": [code] * 5_000})
    yield "long texts with escapes", _body({"messages": [text] * 12})
    yield "embeddings, strings in a list", _body({"input": [f"word {i} of many" for i in range(100_000)]})
    yield "embeddings, token ids", _body({"input": [[i, i + 1, i + 2] for i in range(100_000)]})
    yield "a million members", b"{" + b",\n".join(b'"line%d": %d' % (i, i) for i in range(1_000_000)) + b"}"
    yield "hostile: deep nesting", b'{"a":' + b"[0," * 300_000 + b"0" + b"]" * 300_000 + b',"model":"m"}'
    yield "hostile: many models", b"{" + b'"model":"m",' * 50_000 + b'"model":"m"}'
    yield "hostile: escaped keys", b"{" + b'"\\u0061":1,' * 50_000 + b'"model":"m"}'
    yield "hostile: empty strings", b'{"a":[' + b'"",' * 500_000 + b'0],"model":"m"}'
    yield "hostile: empty arrays", b'{"a":[' + b"[]," * 500_000 + b'0],"model":"m"}'
    yield "hostile: saw teeth", b'{"a":[' + b"[[[[[[0]]]]]]," * 100_000 + b'0],"model":"m"}'
    yield "hostile: slopes", b'{"a":[' + (b"[" * 5 + b"1," * 800) * 1000
    yield "hostile: backslashes", b'{"a":"' + b"\\" * 2_000_000 + b'","model":"m"}'
    yield "hostile: white space", b'{"a":' + b" " * 2_000_000 + b'0,"model":"m"}'


def _body(body: dict[str, object]) -> bytes:
    return json.dumps({**body, "model": "m"}).encode()


def form_bodies() -> Iterator[tuple[str, bytes]]:
    """Forms that clients send, then forms that are meant to be slow."""
    audio = random.Random(2).randbytes(25 * 1024 * 1024)
    yield "25 MiB audio before model", _form(("file", audio), ("model", b"whisper-1"))
    yield "hostile: half a delimiter", _form(("file", b"\r\n--b0un" * 500_000), ("model", b"whisper-1"))
    yield "hostile: line ends", _form(("file", b"\r\n" * 2_000_000), ("model", b"whisper-1"))
    yield "hostile: small parts", _form(*[("x", b"")] * 20_000, ("model", b"m"))


def _form(*fields: tuple[str, bytes]) -> bytes:
    parts = [b'--b0und\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (n.encode(), v) for n, v in fields]
    return b"".join(parts) + b"--b0und--\r\n"


def run(make: Callable[[], Peek], body: bytes) -> list[float]:
    """Feed the body in chunks; the seconds of each call."""
    peek, seconds = make(), []
    for chunk in [body[i : i + CHUNK_BYTES] for i in range(0, len(body), CHUNK_BYTES)]:
        position = 0
        while position < len(chunk):
            begin = time.perf_counter()
            position = peek.feed(chunk, position)
            seconds.append(time.perf_counter() - begin)
    return seconds


def report(title: str, make: Callable[[], Peek], bodies: Iterator[tuple[str, bytes]]) -> None:
    """Print one line per body."""
    print(f"\n{title:32} {'MiB':>6} {'MB/s':>8} {'ms':>8} {'calls':>6} {'longest call':>14}")
    for name, body in bodies:
        best = [min(times) for times in zip(*(run(make, body) for _ in range(RUNS)), strict=True)]
        total_s, longest_s = sum(best), max(best)
        print(
            f"{name:32} {len(body) / 2**20:6.1f} {len(body) / total_s / 1e6:8.0f} {total_s * 1e3:8.1f}"
            f" {len(best):6d} {longest_s * 1e3:11.2f} ms"
        )


def routers() -> Iterator[tuple[str, Router, list[tuple[bytes | None, bytes]]]]:
    """Tables of routes with the requests to look up in them."""
    for count in (10, 1000):
        ids = [random.Random(i).randrange(count) for i in range(64)]
        one = Router([Route(service=f"s{i}", hosts=(f"s{i}.example.org",)) for i in range(count)])
        yield f"{count} exact hosts", one, [(b"s%d.example.org" % i, b"/v1/chat/completions") for i in ids]
        yield f"{count} exact hosts, with port", one, [(b"s%d.example.org:8080" % i, b"/v1/x") for i in ids]
        named = Router([Route(service=f"s{i}") for i in range(count)])
        yield f"{count} names, NAME.localhost:8080", named, [(b"s%d.localhost:8080" % i, b"/v1/x") for i in ids]
        wild = Router([Route(service=f"s{i}", hosts=(f"*.s{i}.example.org",)) for i in range(count)])
        yield f"{count} wildcard hosts", wild, [(b"a.b.s%d.example.org" % i, b"/x") for i in ids]
        prefixes = Router([Route(service=f"s{i}", path_prefix=f"/s{i}") for i in range(count)])
        yield f"{count} prefixes", prefixes, [(b"127.0.0.1:8080", b"/s%d/v1/chat/completions?x=1" % i) for i in ids]
        models = Router([Route(service=f"s{i}", models=(f"m{i}",)) for i in range(count)])
        yield f"{count} models (before the body)", models, [(b"127.0.0.1:8080", b"/v1/chat/completions")] * 64


def report_routers() -> None:
    """Print one line per table of routes."""
    print(f"\n{'routing':32} {'ns, warm head':>14} {'ns, new head':>14}")
    for name, router, requests in routers():
        kept, new = (_best_match_ns(match, requests) for match in (router.match, router._look_up))
        print(f"{name:32} {kept:14.0f} {new:14.0f}")


def _best_match_ns(match: Callable[[bytes | None, bytes], object], requests: list[tuple[bytes | None, bytes]]) -> float:
    best = float("inf")
    for _ in range(RUNS):
        # a request's bytes are new: their hash is not known yet
        fresh = [(bytes(bytearray(host or b"")), bytes(bytearray(path))) for _ in range(200) for host, path in requests]
        begin = time.perf_counter()
        for host, path in fresh:
            match(host, path)
        best = min(best, time.perf_counter() - begin)
    return best / len(fresh) * 1e9


def main() -> None:
    """Print the three tables."""
    report("JSON peek", ModelPeek, json_bodies())
    report("multipart peek", lambda: MultipartPeek(b"b0und"), form_bodies())
    report_routers()


if __name__ == "__main__":
    main()
