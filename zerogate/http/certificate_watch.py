"""The certificates in use, and whether those on disk are others by now.

Renewals change files without a word to anybody. About once a minute their times and sizes are looked at, in a thread;
what changed is loaded as a whole and given to `use`, or, where it is wrong (a key that is not written yet), what is in
use stays and the log says why. A reload of the file tells its own. Owned by the composition roots: by the box, and by
each process of a gateway. The gateway's parent has no loop and calls `refresh`, so that whoever it forks begins with
what is in use, whatever is on disk then.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

from zerogate.clock import now, wall
from zerogate.errors import DefinitionErrors
from zerogate.http.certificate_files import DAY_S, warnings
from zerogate.http.certificates import ServerContexts

CHECK_S: Final = 60.0
"""Renewals come days before they are needed; a stat of a file costs some microseconds."""

log = logging.getLogger(__name__)


class Loaded(Protocol):
    """What was loaded; there may be more of it."""

    @property
    def server(self) -> ServerContexts | None:
        """Of the TLS listener."""


LoadedT = TypeVar("LoadedT", bound=Loaded)
LoadedT_co = TypeVar("LoadedT_co", bound=Loaded, covariant=True)


class Source(Protocol[LoadedT_co]):
    """Files with certificates. Both methods block."""

    def stamp(self) -> tuple[object, ...]:
        """What changes when one of the files does, or when a folder has others."""

    def load(self) -> LoadedT_co:
        """All of them. Raises DefinitionErrors."""


class CertificateWatch(Generic[LoadedT]):
    """See the module's text. It loads at once: made before there is traffic. Raises DefinitionErrors."""

    def __init__(self, source: Source[LoadedT]) -> None:
        self._source = source
        self._stamp = source.stamp()
        self.loaded = source.load()
        self.refused = ""
        """Why what is on disk now cannot be used, where that is so; what was loaded before stays."""
        self._warned_s = float("-inf")
        self._warn()

    def follow(self, source: Source[LoadedT], loaded: LoadedT) -> None:
        """Another file was read, and this is what it names."""
        self._source = source
        self.loaded = loaded
        self.refused = ""
        self._stamp = ()
        self._warn()

    def ends(self) -> dict[str, float]:
        """When each certificate of the listener ends, by the wall clock."""
        server = self.loaded.server
        return {} if server is None else {one.pair.certificate: one.valid_until_at for one in server.certificates}

    async def run(self, use: Callable[[LoadedT], None]) -> None:
        """Look again and again."""
        while True:
            await asyncio.sleep(CHECK_S)
            await self.look(use)

    async def look(self, use: Callable[[LoadedT], None]) -> None:
        """Load what has changed, and have it used."""
        source = self._source
        if self._is_changed(await asyncio.to_thread(source.stamp)):
            loaded = await asyncio.to_thread(_try, source)
            # unless a reload was faster
            if source is self._source and self._take(loaded):
                use(self.loaded)
        self._warn_daily()

    def refresh(self) -> None:
        """Load what has changed, for those who begin with it. It blocks."""
        if self._is_changed(self._source.stamp()):
            self._take(_try(self._source))
        self._warn_daily()

    def _is_changed(self, stamp: tuple[object, ...]) -> bool:
        had_stamp, self._stamp = self._stamp, stamp
        self._is_news = bool(had_stamp)
        return stamp != had_stamp

    def _take(self, loaded: LoadedT | DefinitionErrors) -> bool:
        """Whether it can be used."""
        if isinstance(loaded, DefinitionErrors):
            self.refused = str(loaded)
            return False
        self.refused = ""
        self.loaded = loaded
        # after a reload what is on disk is most likely what the reload read
        if self._is_news:
            log.info("certificates have changed and are in use")
        self._warn()
        return True

    def _warn_daily(self) -> None:
        if now() - self._warned_s >= DAY_S:
            self._warn()

    def _warn(self) -> None:
        self._warned_s = now()
        for warning in warnings(self.loaded.server, wall()):
            log.warning("%s", warning)


def _try(source: Source[LoadedT]) -> LoadedT | DefinitionErrors:
    try:
        return source.load()
    except DefinitionErrors as errors:
        log.error("certificates have changed and cannot be used, the former ones stay:\n%s", errors)
        return errors
