"""A browser through a real `zerogate up`: Chromium's fetch, EventSource and WebSocket, with real servers behind."""

import os
import signal
from pathlib import Path

import pytest

from tests.certificates import Authority
from tests.e2e.browser import CHROMIUM, Browser, Page, chromium
from tests.e2e.harness import Box, free_port, soon, stub, zerogate
from tests.e2e.servers.served import COMMANDS, allow, behind

pytestmark = [
    pytest.mark.slow,
    pytest.mark.may_block("beginning a process takes long on a busy machine"),
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (apt-get install chromium)"),
]

by_server = pytest.mark.parametrize("server", COMMANDS)

EVENTS = """
  window.seen = [];
  window.source = new EventSource('/events?n=%d');
  source.onmessage = event => { seen.push(event.data); if (event.data == '[DONE]') source.close() };
"""
SOCKET = """
  window.heard = []; window.ended = null;
  window.ws = new WebSocket('%s', ['tokens.v1']);
  ws.binaryType = 'arraybuffer';
  ws.onmessage = event => heard.push(typeof event.data == 'string' ? event.data : event.data.byteLength);
  ws.onclose = event => ended = [event.code, event.reason, event.wasClean];
"""

REPLIES = {"uvicorn": [3001, "done", True], "aiohttp": [1000, "", True]}
"""To a close with 3001: uvicorn repeats it, aiohttp says 1000."""


async def page_of(browser: Browser, box: Box) -> Page:
    """A page of the service `chat`."""
    return await browser.open(f"http://chat:{box.listen}/page")


async def read_gated_events(page: Page, box: Box, count: int) -> None:
    """Each is in the page before the server may send the next."""
    for number in range(count):
        await page.until(f"seen.length > {number}")
        assert await page.run(f"seen[{number}]") == f"event {number}"
        await allow(box)


@by_server
async def test_r6_each_event_is_in_the_page_before_the_server_may_send_the_next(server: str, tmp_path: Path) -> None:
    services = {"chat": behind(server), "other": stub()}
    async with zerogate(services, tmp_path) as box, chromium(tmp_path) as browser:
        flood = soon(box.get("other", "/sse?events=50000&size=1000"))
        page = await page_of(browser, box)
        await page.run(EVENTS % 20)
        await read_gated_events(page, box, 20)
        assert await page.until("seen[20]") == "[DONE]"
        assert (await flood).status_code == 200


@by_server
async def test_f2_an_event_source_whose_replica_died_goes_on_behind_its_last_event(server: str, tmp_path: Path) -> None:
    async with zerogate({"chat": behind(server)}, tmp_path) as box, chromium(tmp_path) as browser:
        page = await page_of(browser, box)
        await page.run(EVENTS % 5)
        await read_gated_events(page, box, 2)
        await page.until("seen.length == 3")
        (old,) = (await box.status("chat"))["replicas"]
        os.kill(old["pid"], signal.SIGKILL)
        await page.until("seen.length == 4")
        (new,) = (await box.status("chat"))["replicas"]
        assert new["pid"] != old["pid"]
        await allow(box)
        assert await page.until("seen.length == 6 && seen.join()") == "event 0,event 1,event 2,event 3,event 4,[DONE]"


@by_server
async def test_r3_a_pages_websocket_echoes_and_keeps_its_close_codes(server: str, tmp_path: Path) -> None:
    async with zerogate({"chat": behind(server)}, tmp_path) as box, chromium(tmp_path) as browser:
        page = await page_of(browser, box)
        url = f"ws://chat:{box.listen}"
        await page.run(SOCKET % f"{url}/socket")
        await page.until("ws.readyState == 1")
        assert await page.run("ws.protocol") == "tokens.v1"
        assert "permessage-deflate" in await page.run("ws.extensions")
        await page.run("ws.send('hello'); ws.send(new Uint8Array(300000)); ws.send('x'.repeat(100000))")
        assert await page.until("heard.length == 3 && heard[0] + heard[1] + heard[2].length") == "hello300000100000"
        await page.run("ws.send('close 4321 enough')")
        assert await page.until("ended") == [4321, "enough", True]
        await page.run(SOCKET % f"{url}/socket")
        await page.until("ws.readyState == 1")
        await page.run("ws.close(3001, 'done')")
        assert await page.until("ended") == REPLIES[server]
        await page.run(SOCKET % f"{url}/refused")
        assert await page.until("ended") == [1006, "", False]
        await box.until("chat", lambda status: status["in_flight"] == 0)


@by_server
async def test_r3_a_pages_websocket_is_told_1001_when_zerogate_leaves(server: str, tmp_path: Path) -> None:
    async with zerogate({"chat": behind(server)}, tmp_path) as box, chromium(tmp_path) as browser:
        page = await page_of(browser, box)
        await page.run(SOCKET % f"ws://chat:{box.listen}/socket")
        await page.until("ws.readyState == 1")
        leaving = soon(box.stop())
        assert await page.until("ended") == [1001, await page.run("ended[1]"), True]
        assert await leaving == 0


@by_server
async def test_a_page_posts_reads_piece_by_piece_and_gives_up(server: str, tmp_path: Path) -> None:
    async with zerogate({"chat": behind(server)}, tmp_path) as box, chromium(tmp_path) as browser:
        page = await page_of(browser, box)
        size = 8 << 20
        post = f"fetch('/echo', {{method: 'POST', body: new Uint8Array({size}).fill(7)}})"
        sum_up = ".then(answer => answer.arrayBuffer()).then(body => new Uint8Array(body).reduce((a, b) => a + b, 0))"
        assert await page.run(post + sum_up) == 7 * size
        many = "Promise.all([...Array(30).keys()].map(n => fetch('/x' + n).then(answer => answer.status)))"
        assert await page.run(many) == [200] * 30
        await page.run("window.control = new AbortController()")
        await page.run("fetch('/events?n=9', {signal: control.signal}).then(a => window.reader = a.body.getReader())")
        piece = "reader.read().then(({value}) => new TextDecoder().decode(value))"
        assert "event 0" in await page.run(piece)
        await allow(box)
        assert "event 1" in await page.run(piece)
        await page.run("control.abort()")
        await box.until("chat", lambda status: status["in_flight"] == 0, within_s=5)
        assert (await box.ended("chat"))["abandoned"] == 1


@by_server
@pytest.mark.parametrize(("flags", "spoken"), [((), "h2"), (("--disable-http2",), "http/1.1")], ids=["h2", "http1"])
async def test_r5_over_tls_a_page_has_its_events_and_its_websocket(
    server: str, flags: tuple[str, ...], spoken: str, tmp_path: Path
) -> None:
    authority, port = Authority(), free_port()
    authority.issue(tmp_path, "server")
    pair = [{"certificate": "server.crt", "key": "server.key"}]
    services = {"chat": behind(server)}
    async with (
        zerogate(services, tmp_path, listen_tls=f"127.0.0.1:{port}", tls=pair) as box,
        chromium(tmp_path, *flags) as browser,
    ):
        page = await browser.open(f"https://chat:{port}/page")
        assert await page.run("performance.getEntriesByType('navigation')[0].nextHopProtocol") == spoken
        fields = dict(await page.run("fetch('/x').then(answer => answer.json()).then(seen => seen.fields)"))
        assert {name.lower(): value for name, value in fields.items()}["x-forwarded-proto"] == "https"
        await page.run(EVENTS % 5)
        await read_gated_events(page, box, 5)
        await page.run(SOCKET % f"wss://chat:{port}/socket")
        await page.until("ws.readyState == 1")
        await page.run("ws.send('hello')")
        assert await page.until("heard[0]") == "hello"


async def test_a_page_is_told_why_it_was_refused(tmp_path: Path) -> None:
    services = {"chat": stub(), "cold": stub("--never-ready", hold_timeout="1s")}
    async with zerogate(services, tmp_path) as box, chromium(tmp_path) as browser:
        page = await browser.open(f"http://cold:{box.listen}/page")
        told = await page.run(
            "fetch('/').then(async a => [a.status, (await a.json()).code, a.headers.get('retry-after')])"
        )
        assert told[:2] == [503, "hold_timeout"]
        assert int(told[2]) >= 1
