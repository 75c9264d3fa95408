"""Pages are asked for ahead of who works on them."""

import asyncio
from contextlib import aclosing

import pytest

from zerogate.kube.decoding import ListMeta, Page
from zerogate.kube.errors import Asked, Unreachable
from zerogate.kube.pages import read_ahead


class Server:
    """Three pages: "", "1" and "2". `failing`: the token that cannot be had."""

    def __init__(self, failing: str = "-") -> None:
        self.failing = failing
        self.asked: list[str] = []
        self.cancelled: list[str] = []
        self.hold: dict[str, asyncio.Event] = {}

    async def fetch(self, token: str) -> Page:
        self.asked.append(token)
        try:
            if token in self.hold:
                await self.hold[token].wait()
        except asyncio.CancelledError:
            self.cancelled.append(token)
            raise
        if token == self.failing:
            raise Unreachable(Asked(verb="list"), "no answer in time")
        following = {"": "1", "1": "2", "2": ""}[token]
        return Page(metadata=ListMeta(resource_version=f"of {token}", continue_token=following))


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_all_pages_come_in_order_from_the_token_on() -> None:
    server = Server()
    for start, expected in (("", ["of ", "of 1", "of 2"]), ("1", ["of 1", "of 2"]), ("2", ["of 2"])):
        async with aclosing(read_ahead(server.fetch, start)) as pages:
            assert [page.metadata.resource_version async for page in pages] == expected


async def test_the_next_page_is_on_its_way_while_one_is_worked_off_and_no_further_one() -> None:
    server = Server()
    async with aclosing(read_ahead(server.fetch, "")) as pages:
        await anext(pages)
        await settle()
        assert server.asked == ["", "1"]


async def test_a_page_that_fails_is_told_after_those_before_it() -> None:
    server = Server(failing="1")
    async with aclosing(read_ahead(server.fetch, "")) as pages:
        assert (await anext(pages)).metadata.resource_version == "of "
        await settle()
        with pytest.raises(Unreachable):
            await anext(pages)


async def test_who_leaves_early_leaves_no_request_behind() -> None:
    server = Server()
    server.hold["1"] = asyncio.Event()
    async with aclosing(read_ahead(server.fetch, "")) as pages:
        await anext(pages)
        await settle()
    assert server.cancelled == ["1"]
