"""How the story looks: lines that stay, each with its time, and below them one region that moves while something lasts.

On a terminal the region is redrawn in place and leaves nothing behind; where nobody can see it move (a pipe, a file, a
dumb terminal) only the lines are printed, without control codes.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from zerogate.clock import now

Show = Callable[[RenderableType], None]

_PIPED_COLUMNS: Final = 100
_BAR_COLUMNS: Final = 28
"""With the time before it and a sentence behind it, it fits 80 columns."""
_STYLES: Final = {"●": "yellow", "✓": "green", "○": "blue", "▸": "bold"}


def terminal() -> Console:
    """Standard output, as wide as it is."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # an old locale must not end the story
    return Console(highlight=False, width=None if sys.stdout.isatty() else _PIPED_COLUMNS)


class Teller:
    """Tells it on `console`. Times count from when it was made."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._moves = console.is_terminal and not console.is_dumb_terminal
        self._began_s = now()

    def title(self, text: str, below: str) -> None:
        """What this is."""
        self._console.print(Text(text, "bold"), Text(below, "dim"), sep="\n")

    def chapter(self, text: str) -> None:
        """A new part of it."""
        self._console.print()
        self._console.print(Text(text, "bold"))

    def say(self, sign: str, what: RenderableType) -> None:
        """Something that happened now."""
        stamp = Text(f"{now() - self._began_s:.1f} s", "dim")
        self._console.print(_line(stamp, Text(sign, _STYLES.get(sign, "")), what))

    def quote(self, text: str) -> None:
        """What the model said."""
        self._console.print(_quoted(text))

    def table(self, rows: list[tuple[str, str, str]]) -> None:
        """What was measured: a name, a figure, what it means."""
        table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
        table.add_column(style="bold", no_wrap=True)
        table.add_column(justify="right", style="green", no_wrap=True)
        table.add_column()
        for row in rows:
            table.add_row(*row)
        self._console.print(Padding(table, (0, 0, 0, 2), expand=False))

    def as_typed(self, text: str) -> None:
        """Something to copy: never folded."""
        self._console.print(Text(text), soft_wrap=True)

    @contextmanager
    def moving(self) -> Iterator[Show]:
        """The region that moves, as long as this lasts; what is shown there is gone afterwards."""
        if not self._moves:
            yield lambda _: None
            return
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            yield lambda what: live.update(what, refresh=True)


def moving_line(what: RenderableType) -> RenderableType:
    """Something that lasts, for the region that moves."""
    return _line(Text(""), Text("●", "yellow"), what)


def moving_quote(text: str) -> RenderableType:
    """What the model has said so far."""
    return _quoted(f"{text}▌")


def bar(part: float | None, words: str, *, age_s: float = 0.0) -> RenderableType:
    """`part` of a bar (0 to 1), or one that only says that something goes on, and words behind it."""
    grid = Table.grid(padding=(0, 1))
    if part is None:
        drawn = ProgressBar(total=None, pulse=True, width=_BAR_COLUMNS, animation_time=age_s)
    else:
        drawn = ProgressBar(total=1.0, completed=min(max(part, 0.0), 1.0), width=_BAR_COLUMNS)
    grid.add_row(drawn, Text(words))
    return grid


def _line(stamp: Text, sign: Text, what: RenderableType) -> RenderableType:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=6, justify="right", no_wrap=True)
    grid.add_column(width=1)
    grid.add_column(overflow="fold")
    grid.add_row(stamp, sign, what)
    return grid


def _quoted(text: str) -> RenderableType:
    return Padding(Text(text.strip(), "italic"), (0, 2, 0, 9), expand=False)
