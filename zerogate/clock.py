"""Time, in one place: shells take `now` here and hand it to the cores as an argument.

`now` is for intervals, `wall` for calendars and stamps in records. Neither is uvloop's `loop.time()`, which moves
in steps of a millisecond.
"""

import time

now = time.perf_counter
"""Seconds, float, monotonic, from an unknown origin. The same clock in every process of one machine."""

wall = time.time
"""Seconds since 1970 in UTC, float. It may jump: never subtract two of them to get an interval."""
