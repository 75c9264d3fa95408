"""The picture in the README fetches nothing from elsewhere."""

import io
import re

from rich.console import Console

from tools.record_demo import PICTURE, without_fonts


def test_a_recorded_picture_names_no_address_but_its_own_format_s() -> None:
    console = Console(record=True, file=io.StringIO(), width=40)
    console.print("[bold]held[/bold]")
    svg = console.export_svg(title="x", unique_id="x")
    assert "url(" in svg.partition("@font-face")[2], "otherwise there is nothing to take out any more"
    assert not re.search(r"@font-face|https?://(?!www\.w3\.org|www\.textualize)", without_fonts(svg))


def test_the_committed_picture_is_such_a_one_and_shows_a_whole_story() -> None:
    svg = PICTURE.read_text()
    assert "@font-face" not in svg
    for scene in ("held:", "ready", "warm", "zero:", "always"):
        assert scene in svg.replace("&#160;", " ")
