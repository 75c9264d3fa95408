"""What one HTTP/2 connection may cost us: bounds, and budgets for what brings nothing. Pure.

Every flood that was found in HTTP/2 is cheap frames that make the other side work: each kind is counted against one of
two budgets, and a peer that spends one is told ENHANCE_YOUR_CALM and let go.
"""

from typing import Final

import msgspec

from zerogate.http.h2.frames import DEFAULT_WINDOW


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds of a connection."""

    streams: int = 128
    """Streams of the peer at a time, announced; nginx's default. Go allows 250, Envoy 1024."""
    head_bytes: int = 64 * 1024
    """A field section, compressed or not: the same as a head of HTTP/1.1."""
    continuations: int = 16
    """CONTINUATION frames of one block (CVE-2024-27316): four carry `head_bytes`."""
    stream_window_bytes: int = DEFAULT_WINDOW
    """Of a body that nobody takes; together with what an exchange keeps that is two marks of 64 KiB."""
    connection_window_bytes: int = 1024 * 1024
    """Never held back: a body that waits for a model must not stop the others. The streams' windows bound the sum. At
    least `DEFAULT_WINDOW`, which a peer has before it hears of any other."""
    stalled_s: float = 60.0
    """How long an answer that is complete may lie with a peer that opens no window for it; nginx's send_timeout."""
    dropped_bytes: int = 64 * 1024 * 1024
    """Rest of a request that is read for nothing, so that its client reads an early answer; as much as over HTTP/1.1.
    curl 7.88 and httpx 0.28 read none as long as they have something to send."""
    output_bytes: int = 64 * 1024
    """Replies (acknowledgements, resets) kept for a peer that does not read: 17 bytes each, so four thousand."""


RESETS: Final = (1000, 33.0)
"""Streams that end by a reset, of the peer's (CVE-2023-44487) or by a violation of the peer's (CVE-2025-8671): so many
at once, so many a second. nghttp2's figures; a page that a browser leaves costs about a hundred."""
NOISE: Final = (1000, 100.0)
"""Frames that bring nothing: PING, SETTINGS, PRIORITY, WINDOW_UPDATE, unknown ones, empty DATA. gRPC pings with every
answer to measure the line, so work that was done gives back `WORTH`."""
WORTH: Final = 10


class Budget:
    """So many at once, so many a second."""

    __slots__ = ("_at_s", "_burst", "_rate", "left")

    def __init__(self, burst: int, rate_per_s: float, now_s: float) -> None:
        self._burst = burst
        self._rate = rate_per_s
        self._at_s = now_s
        self.left = float(burst)

    def spend(self, now_s: float) -> bool:
        """Take one; False when there is none left."""
        if self.left < 1.0:
            self.left = min(self._burst, self.left + (now_s - self._at_s) * self._rate)
            self._at_s = now_s
            if self.left < 1.0:
                return False
        self.left -= 1.0
        return True

    def give(self, count: int) -> None:
        """Work was done: the budget grows by `count`, to what it was at first."""
        self.left = min(self._burst, self.left + count)
