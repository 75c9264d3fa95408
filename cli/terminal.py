"""How commands speak: answers on standard output, errors on standard error, wide where nobody looks."""

import sys

from rich.console import Console

_PIPED_COLUMNS = 240
"""Into a pipe nothing is folded or cut: lines are for programs then."""


def out() -> Console:
    """For answers."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else _PIPED_COLUMNS)


def err() -> Console:
    """For errors and progress."""
    return Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else _PIPED_COLUMNS)
