"""The certificates in use, and whether those on disk are others by now.

Renewals change files without a word to anybody. About once a minute their times and sizes are looked at, in a thread;
what changed is loaded as a whole and given to `use`, or, where it is wrong (a key that is not written yet), what is in
use stays and the log says why. A reload of the file tells its own. Owned by `cli.running`.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from cli.box import BoxFile
from cli.tls_files import DAY_S, LoadedTls, load_tls, stamp_of, warnings
from zerogate.clock import now, wall
from zerogate.errors import DefinitionErrors

CHECK_S: Final = 60.0
"""Renewals come days before they are needed; a stat of a file costs some microseconds."""

log = logging.getLogger(__name__)


class CertificateWatch:
    """See the module's text. It loads at once: made before there is traffic. Raises DefinitionErrors."""

    def __init__(self, box: BoxFile, use: Callable[[LoadedTls], None]) -> None:
        self._box = box
        self._use = use
        self._stamp = stamp_of(box)
        self.loaded = load_tls(box)
        self._warned_s = float("-inf")
        self._warn()

    def follow(self, box: BoxFile, loaded: LoadedTls) -> None:
        """Another file was read, and this is what it names."""
        self._box = box
        self.loaded = loaded
        self._stamp = ()
        self._warn()

    def ends(self) -> dict[str, float]:
        """When each certificate of the listener ends, by the wall clock."""
        server = self.loaded.server
        return {} if server is None else {one.pair.certificate: one.valid_until_at for one in server.certificates}

    async def run(self) -> None:
        """Look again and again."""
        while True:
            await asyncio.sleep(CHECK_S)
            await self.look()

    async def look(self) -> None:
        """Load what has changed."""
        box = self._box
        stamp = await asyncio.to_thread(stamp_of, box)
        if stamp != self._stamp:
            had_stamp, self._stamp = self._stamp, stamp
            # after a reload what is on disk is most likely what the reload read
            await self._load(box, is_news=bool(had_stamp))
        if now() - self._warned_s >= DAY_S:
            self._warn()

    async def _load(self, box: BoxFile, *, is_news: bool) -> None:
        try:
            loaded = await asyncio.to_thread(load_tls, box)
        except DefinitionErrors as errors:
            log.error("certificates have changed and cannot be used, the former ones stay:\n%s", errors)
            return
        if box is not self._box:
            return  # a reload was faster
        self.loaded = loaded
        self._use(loaded)
        if is_news:
            log.info("certificates have changed and are in use")
        self._warn()

    def _warn(self) -> None:
        self._warned_s = now()
        for warning in warnings(self.loaded, wall()):
            log.warning("%s", warning)
