"""Records the picture in the README: a real run of the demonstration, as an SVG of 100 columns.

`make picture` calls it. What moves on a terminal is not in the picture, only the lines that stay. The fonts that rich
would have the reader's browser fetch are taken out: a picture in a repository fetches nothing.
"""

import re
import sys
from pathlib import Path
from typing import Final

from rich.console import Console

from cli.demo.story import run

PICTURE: Final = Path(__file__).resolve().parent.parent / "docs" / "images" / "demo.svg"
_COLUMNS: Final = 100


def without_fonts(svg: str) -> str:
    """The picture in a monospaced font that the reader has."""
    svg = re.sub(r"@font-face\s*{.*?}", "", svg, flags=re.DOTALL)
    return svg.replace("Fira Code", "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono'")


def main() -> int:
    console = Console(record=True, width=_COLUMNS, force_terminal=False, highlight=False)
    code = run(keep=False, console=console)
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    PICTURE.write_text(without_fonts(console.export_svg(title="make demo", unique_id="demo")))
    print(f"wrote {PICTURE}")
    return code


if __name__ == "__main__":
    sys.exit(main())
