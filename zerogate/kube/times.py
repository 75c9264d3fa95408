"""Times as the Kubernetes API writes them. Pure."""

from datetime import UTC, datetime


def micro_time(wall_s: float) -> str:
    """A `MicroTime`: exactly six digits of a second, which the API insists on."""
    return datetime.fromtimestamp(wall_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def wall_time(text: str) -> float:
    """Seconds since 1970 of a time as the API writes it, with or without a fraction. ValueError where it is none."""
    return datetime.fromisoformat(text).timestamp()


def second_time(wall_s: float) -> str:
    """A `Time`: to the second, in UTC."""
    return datetime.fromtimestamp(round(wall_s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
