"""The figures of a whole run as the README shows them. Pure."""

from collections.abc import Mapping, Sequence
from typing import Final

from bench.table import Figure

PARTS: Final = ("wake", "idle", "held", "leaving", "overload", "smooth", "sidecar", "warm")
"""What a user feels; the others are for those who work on it."""
BESIDE: Final = "warm"
"""Its ratios say in their notes what stood beside what."""
BEGIN: Final = "<!-- figures: written by `make bench` -->\n"
END: Final = "<!-- end of figures -->\n"


def filled(readme: str, found: Mapping[str, Sequence[Figure]], machine: Mapping[str, str | int]) -> str:
    """The text with these figures, by part, in the place of those that it has. Raises ValueError where it has none."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"there is no {BEGIN.strip()} … {END.strip()}")
    return f"{before}{BEGIN}{_section(found, machine)}{END}{after}"


def _section(found: Mapping[str, Sequence[Figure]], machine: Mapping[str, str | int]) -> str:
    lines = [
        f"Measured on {machine['cores']} shared cores ({machine['cpu']}, Python {machine['python']}) with nothing else "
        "running; take the",
        "ratios, not the milliseconds. nginx is a reverse proxy in the same run that sets the same forwarding fields.",
        "",
        "| figure | target | measured |",
        "|---|---|---|",
    ]
    for part in PARTS:
        for figure in found.get(part, ()):
            beside = f" ({figure.note.split(';')[0]})" if part == BESIDE else ""
            missed = ", **missed**" if figure.is_met is False else ""
            lines.append(f"| {figure.name} | {figure.goal or '–'} | {figure.value}{beside}{missed} |")
    return "\n".join(lines) + "\n"
