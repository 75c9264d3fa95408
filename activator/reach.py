"""What is known of replicas that could not be reached: shared by all requests of a service. Pure.

A connect that failed is a finding about the replica and not about the request. After one, the replica rests; then one
request tries again while the others wait, and the first connection that comes about frees them all. When every replica
that could take requests has failed `MAX_ATTEMPTS` times in a row, whoever waits is told the cause at once: a crowd at
a dead endpoint waits as long as one request does. Owned by `activator.hold`.
"""

from collections.abc import Iterable
from typing import Final

from zerogate.http.exchange import Exchange
from zerogate.http.sides import Destination

MAX_ATTEMPTS: Final = 5
"""Then the clients are told. With the rest in between, half a second of a replica that cannot be reached."""
NEVER: Final = float("inf")


class Finding:
    """Of one replica: how often in a row no connection came about, and why."""

    __slots__ = ("cause", "count", "failed_s", "prober")

    def __init__(self) -> None:
        self.count = 0
        self.cause = ""
        self.failed_s = float("-inf")
        self.prober: Exchange | None = None
        """Who tries it now; nobody else is sent there meanwhile."""


class Reach:
    """See the module's text."""

    def __init__(self) -> None:
        self.findings: dict[str, Finding] = {}
        """By replica; empty as long as nothing is amiss, which is all that a warm request looks at."""

    def try_with(self, upstream: Destination[Exchange], exchange: Exchange) -> None:
        """The exchange is about to be sent there: where the last connect failed, it goes alone."""
        finding = self.findings.get(upstream.id)
        if finding is not None:
            finding.prober = exchange
            upstream.rests_until_s = NEVER

    def failed(self, upstream: Destination[Exchange], exchange: Exchange, cause: str, now_s: float) -> bool:
        """A connect failed; returns whether that is news: those that were under way at the same time are one failure.

        Afterwards the replica is to rest, unless it `is_tried` by another.
        """
        finding = self.findings.setdefault(upstream.id, Finding())
        is_news = exchange.dispatched_s > finding.failed_s
        if is_news:
            finding.count += 1
            finding.failed_s = now_s
        finding.cause = cause
        if finding.prober is exchange:
            finding.prober = None
        return is_news

    def is_tried(self, upstream: Destination[Exchange]) -> bool:
        """Whether a request tries it now."""
        finding = self.findings.get(upstream.id)
        return finding is not None and finding.prober is not None

    def left(self, upstream: Destination[Exchange], exchange: Exchange) -> None:
        """The exchange needs no connection any more: the next one may try."""
        finding = self.findings.get(upstream.id)
        if finding is not None and finding.prober is exchange:
            finding.prober = None
            upstream.rests_until_s = 0.0

    def forget(self, upstream: Destination[Exchange]) -> None:
        """It was reached, or it is gone."""
        if self.findings.pop(upstream.id, None) is not None:
            upstream.rests_until_s = 0.0

    def hopeless(self, takers: Iterable[Destination[Exchange]]) -> str | None:
        """Why none of them can be reached, where that is known of all; None otherwise."""
        cause = None
        for upstream in takers:
            finding = self.findings.get(upstream.id)
            if finding is None or finding.count < MAX_ATTEMPTS:
                return None
            cause = finding.cause
        return cause
