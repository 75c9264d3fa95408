"""The pages of a list, each of them asked for while the one before is worked off.

The server needs as long for a page as we do for its objects, so that one after the other takes twice as long. At most
two pages are in memory and a third on its way. Called by `watching.py`.
"""

from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

from zerogate.kube.decoding import Page
from zerogate.tasks import Nursery


async def read_ahead(fetch: Callable[[str], Coroutine[Any, Any, Page]], token: str) -> AsyncGenerator[Page, None]:
    """The page of that token ("": the first) and all after it, in order.

    What `fetch` raises for a page is raised when that page's turn has come, after those before it. To be closed
    (`contextlib.aclosing`): who leaves early wants no further page.
    """
    nursery = Nursery(on_failure=_raised_in_its_turn)
    try:
        coming = nursery.start(fetch(token), name="first page")
        while True:
            page = await coming
            following = page.metadata.continue_token
            if following:
                coming = nursery.start(fetch(following), name="next page")
            yield page
            if not following:
                return
    finally:
        await nursery.aclose()


def _raised_in_its_turn(name: str, failure: BaseException) -> None:
    """Nothing to say twice."""
