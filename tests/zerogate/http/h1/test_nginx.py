"""nginx's verdict on the corpora: where it and we take the same bytes, its replica and ours are told the same.

Runs where nginx is installed (`apt-get install nginx-light`; `.ci/run` does so).
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.programs import NGINX, needs_nginx
from tests.zerogate.http.h1.corpus import REFUSED, REFUSED_BODIES, UNDERSTOOD
from tests.zerogate.http.rig import Script, replica

pytestmark = [
    pytest.mark.slow,
    pytest.mark.may_block,
    needs_nginx,
]

CONF = """
daemon off; pid {folder}/pid; error_log {folder}/error.log; worker_processes 1; master_process off;
events {{ worker_connections 512; }}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://127.0.0.1:{replica}; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
"""
SILENCE_S = 1.0
"""nginx answers what it understands within milliseconds; what has no answer by then waits for more bytes."""

_LF = "nginx takes a line feed alone for the end of a line; RFC 9112 lets it, and smuggling lives on it"
_DROPPED = "nginx drops the field in silence; the client should know"
_LOOSE = "looser than the grammar of RFC 9110 and 9112, and nobody needs it"
NGINX_TAKES = {
    "length-under-an-underscore-name": _DROPPED,
    "coding-under-an-underscore-name": _DROPPED,
    "forwarding-under-an-underscore-name": _DROPPED,
    "name-without-colon": _DROPPED,
    "name-with-a-high-byte": _DROPPED,
    "name-with-parentheses": _DROPPED,
    "lines-end-with-lf": _LF,
    "one-line-ends-with-lf": _LF,
    "chunk-size-bare-lf": _LF,
    "chunk-extension-bare-lf": _LF,
    "chunk-ended-by-lf": _LF,
    "last-chunk-ended-by-lf": _LF,
    "chunk-size-before-a-space": _LOOSE,
    "trailer-folded": _LOOSE,
    "trailer-with-a-space-in-its-name": _LOOSE,
    "value-with-a-control": _LOOSE,
    "value-with-del": _LOOSE,
    "version-1.2": "nginx takes any 1.x; there is only 1.0 and 1.1",
    "a-space-at-the-end": _LOOSE,
    "target-with-a-fragment": "nginx cuts it off for itself and passes it on",
    "target-of-another-scheme": "nginx looks at no scheme; a forward proxy would",
    "host-with-a-user": _LOOSE,
    "host-with-a-port-in-letters": _LOOSE,
    "host-with-two-ports": _LOOSE,
    "many-fields": "nginx bounds bytes and not numbers",
}
"""Refused here, taken by nginx, with the reason for being stricter."""
NGINX_REFUSES = {
    "length-among-spaces": "nginx knows no tab there; RFC 9110 section 5.6.3 does",
    "coding-among-spaces": "the same",
    "options-star": "nginx serves no request for itself; replicas may",
}
"""Taken here, refused by nginx, with the reason for taking it."""


@asynccontextmanager
async def nginx(folder: Path, behind: Script) -> AsyncIterator[int]:
    """nginx in front of a scripted replica; its port."""
    async with replica(behind) as port:
        own = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
        listen = own.sockets[0].getsockname()[1]
        own.close()
        (folder / "nginx.conf").write_text(CONF.format(folder=folder, port=listen, replica=port))
        process = await asyncio.create_subprocess_exec(
            str(NGINX), "-c", str(folder / "nginx.conf"), "-p", str(folder), "-e", str(folder / "error.log")
        )
        try:
            async with asyncio.timeout(10):
                while True:
                    try:
                        _, writer = await asyncio.open_connection("127.0.0.1", listen)
                        writer.close()
                        break
                    except OSError:
                        await asyncio.sleep(0.02)
            yield listen
        finally:
            process.terminate()
            await process.wait()


async def telling(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer each request with the method, the target and the body that were understood."""
    while head := await reader.readuntil(b"\r\n\r\n"):
        first, *lines = head.split(b"\r\n")
        fields = {name.lower(): value for name, _, value in (line.partition(b": ") for line in lines)}
        body = await reader.readexactly(int(fields.get(b"content-length", b"0")))
        said = b" ".join((*first.split(b" ")[:2], body))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(said), said))


async def verdict(port: int, data: bytes) -> list[bytes]:
    """The answers to these bytes: of a refusal the status, of an answer what the replica was told."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    answers = []
    try:
        while True:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), SILENCE_S)
            length = next(int(line[16:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
            body = await reader.readexactly(length)
            status = head.split(b" ")[1]
            answers.append(body if status == b"200" else status)
    except (TimeoutError, asyncio.IncompleteReadError, ConnectionError):
        return answers
    finally:
        writer.close()


async def verdicts(tmp_path: Path, corpus: dict[str, bytes]) -> dict[str, list[bytes]]:
    """nginx's verdict on each."""
    async with nginx(tmp_path, telling) as port:
        found = await asyncio.gather(*(verdict(port, data) for data in corpus.values()))
        return dict(zip(corpus, found, strict=True))


async def test_what_is_refused_here_nginx_refuses_too_but_for_what_is_named(tmp_path: Path) -> None:
    found = await verdicts(tmp_path, {name: data for name, (data, _) in (REFUSED | REFUSED_BODIES).items()})
    taken = {name: answers for name, answers in found.items() if answers and not answers[0].isdigit()}
    assert taken.keys() == NGINX_TAKES.keys(), taken


async def test_what_is_understood_here_nginx_understands_the_same_way_but_for_what_is_named(tmp_path: Path) -> None:
    found = await verdicts(tmp_path, {name: data for name, (data, _) in UNDERSTOOD.items()})
    ours = {
        name: [b" ".join((method, target, body)) for method, _, target, body in meanings]
        for name, (_, meanings) in UNDERSTOOD.items()
    }
    differ = {name: (answers, ours[name]) for name, answers in found.items() if answers != ours[name]}
    assert differ.keys() == NGINX_REFUSES.keys(), differ
