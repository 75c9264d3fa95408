"""A headless Chromium, told what to do through its debugging protocol: JSON over a WebSocket, and nothing else needed.

    async with chromium(tmp_path) as browser:
        page = await browser.open("http://chat:8080/x")
        assert await page.run("fetch('/y').then(answer => answer.text())") == "y"

Every host name means this machine, certificates are not checked, and it calls nobody by itself.
"""

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

CHROMIUM: Final = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS: Final = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-breakpad", "--disable-sync",
    "--host-resolver-rules=MAP * 127.0.0.1", "--ignore-certificate-errors", "--no-proxy-server",
    "--remote-debugging-port=0",
)  # fmt: skip
"""The sandbox needs rights that containers do not have; pages here are our own."""
ANSWERS_S: Final = 60


class PageError(AssertionError):
    """What was run in a page threw."""


class Browser:
    """A running Chromium. Commands are numbered and answered in any order."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[dict[str, Any]]] = {}

    async def open(self, url: str) -> "Page":
        """A new page that has loaded `url`."""
        target = await self.command("Target.createTarget", url="about:blank")
        attached = await self.command("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        page = Page(self, attached["sessionId"])
        await page.go(url)
        return page

    async def command(self, method: str, *, session: str | None = None, **params: Any) -> dict[str, Any]:
        """One command of the protocol and its result."""
        number = next(self._numbers)
        self._asked[number] = asyncio.get_running_loop().create_future()
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        await self._socket.send(json.dumps(message))
        answer = await asyncio.wait_for(self._asked[number], ANSWERS_S)
        if "error" in answer:
            raise PageError(f"{method}: {answer['error']}")
        return dict(answer["result"])

    async def listen(self) -> None:
        """Give answers to whoever asked, until the browser is gone; events are of no interest."""
        with contextlib.suppress(ConnectionClosed):  # it does not say goodbye
            async for message in self._socket:
                said = json.loads(message)
                if waiting := self._asked.pop(said.get("id", 0), None):
                    waiting.set_result(said)


class Page:
    """A tab."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session

    async def go(self, url: str) -> None:
        """Load `url`, and wait until it is there."""
        answer = await self._browser.command("Page.navigate", session=self._session, url=url)
        assert "errorText" not in answer, answer
        await self.run("new Promise(go => document.readyState == 'complete' ? go() : addEventListener('load', go))")

    async def run(self, script: str) -> Any:
        """The value of an expression, or what its promise gives."""
        answer = await self._browser.command(
            "Runtime.evaluate", session=self._session, expression=script, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in answer:
            raise PageError(json.dumps(answer["exceptionDetails"], indent=1))
        return answer["result"].get("value")

    async def until(self, condition: str) -> Any:
        """Wait for an expression to become true; its value."""
        look = f"const value = {condition}; value ? go(value) : setTimeout(look, 5)"
        return await self.run(f"new Promise(go => {{ const look = () => {{ {look} }}; look() }})")


@contextlib.asynccontextmanager
async def chromium(folder: Path, *flags: str) -> AsyncIterator[Browser]:
    """Start one with these flags too, and end all of its processes."""
    process = await asyncio.create_subprocess_exec(
        str(CHROMIUM), *FLAGS, *flags, f"--user-data-dir={folder / 'chromium'}", "about:blank",
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        async with asyncio.timeout(ANSWERS_S):
            said, line = b"", b"-"
            while not line.startswith(b"DevTools listening on "):
                line = await process.stderr.readline()
                said += line
                assert line, f"Chromium did not start:\n{said.decode()}"
        reading = asyncio.get_running_loop().create_task(process.stderr.read())
        async with connect(line.split()[-1].decode(), proxy=None, max_size=None) as socket:
            browser = Browser(socket)
            listening = asyncio.get_running_loop().create_task(browser.listen())
            try:
                yield browser
                await browser.command("Browser.close")
            finally:
                await socket.close()
                await listening
        await reading
        await process.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
