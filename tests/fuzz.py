"""How much is tried by tests that try at random: a little in `make test`, much in `make fuzz`."""

import os
from typing import Final

FACTOR: Final = int(os.environ.get("FUZZ", "1"))


def examples(count: int) -> int:
    """So many in `make test`, and as many times more as `FUZZ` says."""
    return count * FACTOR
