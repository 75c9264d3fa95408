"""The parent's side of the cluster process: what it said last, and what workers are told of it.

A cluster process that has just begun tells everything anew; workers hear only what is different from what the one
before it told. Nothing is taken over before it is complete. See `gateway.cluster`.
"""

import logging

from gateway.changes import decode, difference, encode
from gateway.file import EMPTY, GatewayFile
from gateway.messages import Amend, Changed, News

log = logging.getLogger("gateway")


class ClusterSide:
    """See the module's text. `is_known`: the cluster has been seen whole at least once."""

    def __init__(self) -> None:
        self.is_known = False
        self.news = News()
        self.woken = 0
        """Services that were woken from here."""
        self._staged = EMPTY

    def stage(self, message: Changed) -> GatewayFile | None:
        """Take a slice; the services as they are now, where it was the last."""
        if message.is_first:
            self._staged = EMPTY
        self._staged = decode(message.data).applied_to(self._staged)
        if not message.is_last:
            return None
        self.is_known = True
        return self._staged

    def on_news(self, news: News) -> None:
        """What it has to say about itself; in the log, where that is another than before."""
        for fault in news.faults:
            if fault not in self.news.faults:
                log.warning("the cluster is not seen as it is now: %s", fault)
        if self.news.faults and not news.faults:
            log.info("the cluster is seen again")
        self.news = news

    @property
    def detail(self) -> str:
        """For `/readyz`: what is wrong, as a clause; empty where nothing is."""
        return "; ".join(self.news.faults)


def amendments(before: GatewayFile, after: GatewayFile, edition: int) -> list[Amend]:
    """What workers are told that work by `before`; `edition`: the first number that is free."""
    slices = difference(before.services, after.services)
    return [Amend(edition + index, encode(change)) for index, change in enumerate(slices)]
