"""Calendars: floors by the wall clock. Pure."""

import msgspec


class Window(msgspec.Struct, frozen=True):
    """One entry of a schedule."""

    text: str
