"""What the story measured, as the rows of its closing table. Pure."""

import msgspec


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds, of one story. `model_ran_s`: that a model server existed; `lasted_s`: that zerogate was up."""

    hold_s: float
    start_s: float
    cold_first_token_s: float
    warm_first_token_s: float
    model_ran_s: float
    lasted_s: float
    memory_bytes: int | None = None
    """Of the model server while it ran; None where it could not be read."""


def rows(figures: Figures) -> list[tuple[str, str, str]]:
    """(name, figure, what it means)."""
    saved_ratio = 1 - figures.model_ran_s / figures.lasted_s
    memory = [] if figures.memory_bytes is None else [_memory_row(figures.memory_bytes)]
    return [
        ("time held", seconds(figures.hold_s), "the first request waited, and was not lost"),
        ("start", seconds(figures.start_s), "of it: from the process to its first good /health"),
        ("first token", seconds(figures.cold_first_token_s), "from zero: from the request to the first word"),
        ("warm first token", seconds(figures.warm_first_token_s), "with the model running"),
        *memory,
        ("model ran", f"{figures.model_ran_s:.1f} s", f"of {figures.lasted_s:.1f} s that zerogate was up"),
        ("always on", f"{figures.lasted_s:.1f} s", f"{saved_ratio:.0%} spared so far, 100% until somebody asks"),
    ]


def seconds(value_s: float) -> str:
    """Short ones in milliseconds."""
    return f"{value_s:.2f} s" if value_s >= 1 else f"{value_s * 1000:.0f} ms"


def mebibytes(size_bytes: int) -> str:
    """As people compare memory."""
    return f"{size_bytes / 2**20:.0f} MiB"


def _memory_row(size_bytes: int) -> tuple[str, str, str]:
    return "memory", mebibytes(size_bytes), "of the model server; none at zero"
