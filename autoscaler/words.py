"""How decisions speak: durations and counts for a person's eye. Pure."""

from math import ceil


def spell(seconds: float) -> str:
    """`0.4s`, `12s`, `4m 12s`, `2h 5m`, `3d 4h`: two units at most, as one says it."""
    if seconds < 9.95:
        return f"{max(seconds, 0.0):.1f}".removesuffix(".0") + "s"
    whole = ceil(seconds - 0.05)
    for size, big, unit, small in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            rest = whole % size // unit
            return f"{whole // size}{big} {rest}{small}" if rest else f"{whole // size}{big}"
    return f"{whole}s"


def count(number: int, noun: str) -> str:
    """`1 replica`, `3 replicas`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def quantity(number: float) -> str:
    """`10`, `2.5`, `0.002`: three digits that matter, never in exponent form."""
    if number >= 1000:
        return f"{number:.0f}"
    if number < 0.001:
        return "0" if number == 0 else "under 0.001"
    return f"{number:.3g}"
