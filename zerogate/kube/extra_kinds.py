"""Kinds of workloads beside Deployments and StatefulSets: found in the cluster, or looked for until they are there.

What defines a kind may be missing, for now or for ever. Everything else goes on without it; the log says so, and the
doctor. A cluster that does not answer is another matter: nothing begins before it does. Used by autoscalers,
gateways and activators.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from zerogate.errors import ZerogateError
from zerogate.kube.cluster_flags import ExtraKind
from zerogate.kube.feed import Feed
from zerogate.kube.scaling import NotScalable, Scales

log = logging.getLogger(__name__)

ANSWER_AGAIN_S: Final = 2.0
DEFINED_AGAIN_S: Final = 30.0
"""Somebody who installs an operator looks for its pods first."""


class ExtraKinds:
    """See the module's text. `on_silent`: told what keeps the cluster from answering."""

    def __init__(
        self,
        scales: Scales,
        feed: Feed,
        kinds: Sequence[ExtraKind],
        *,
        on_silent: Callable[[str], None],
        defined_again_s: float = DEFINED_AGAIN_S,
    ) -> None:
        self._scales = scales
        self._feed = feed
        self._missing = list(kinds)
        self._on_silent = on_silent
        self._again_s = defined_again_s

    async def find(self) -> None:
        """Add those that the cluster has, before the feed starts."""
        for extra in tuple(self._missing):
            error = await self._look(extra)
            if error is not None:
                log.error("%s Everything else goes on without it, and it is looked for again.", error)

    async def find_missing(self) -> None:
        """Add the others as they come; returns when none is missing."""
        while self._missing:
            await asyncio.sleep(self._again_s)
            for extra in tuple(self._missing):
                if await self._look(extra) is None:
                    log.info("%s of %s is there now", extra.kind, extra.api_version)

    async def _look(self, extra: ExtraKind) -> NotScalable | None:
        while True:
            try:
                self._feed.add_kind(extra.kind, await self._scales.find(extra.api_version, extra.kind))
            except NotScalable as error:
                return error
            except ZerogateError as error:
                self._on_silent(str(error))
                await asyncio.sleep(ANSWER_AGAIN_S)
            else:
                self._missing.remove(extra)
                return None
