"""The fake box and its admin API on loopback."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiohttp import ClientSession, web

from tests.cli.fake_box import FakeBox, served
from zerogate.admin.app import make_app


@pytest.fixture
def box(tmp_path: Path) -> FakeBox:
    return FakeBox(tmp_path)


@pytest.fixture
def admin_url(box: FakeBox) -> Iterator[str]:
    """The API served beside the test, for code that blocks."""
    with served(box) as url:
        yield url


@pytest.fixture
async def admin(box: FakeBox) -> AsyncIterator[ClientSession]:
    """A client of the API served on the test's own loop."""
    runner = web.AppRunner(make_app(box, bound_to="127.0.0.1"), shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0]
    async with ClientSession(f"http://{host}:{port}") as session:
        yield session
    await runner.cleanup()
