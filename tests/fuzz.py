"""How much is tried by tests that try at random: `FUZZ` times what they say themselves.

| | `FUZZ` |
|---|---|
| `make test-fast` | 0.1, which finds what is plainly wrong |
| `make test`, and what has to pass before a merge | 1 |
| `make fuzz` | 100 |

Every test with Hypothesis says a number through `examples`, or none and has that of `PROFILE`.
"""

import os
from typing import Final

from hypothesis import settings

FACTOR: Final = float(os.environ.get("FUZZ") or 1)
PROFILE: Final = "zerogate"


def examples(count: int) -> int:
    """So many where `FUZZ` is 1."""
    return max(1, round(count * FACTOR))


def load_profile() -> None:
    """For tests that say nothing themselves; a deadline would be the test machine's mood."""
    settings.register_profile(PROFILE, max_examples=examples(100), deadline=None)
    settings.load_profile(PROFILE)
