"""How a story fails: with one paragraph, and exit code 1."""

from zerogate.errors import ZerogateError


class StoryError(ZerogateError):
    """Something that the story promises did not happen. `str` says what, and why as far as it is known."""
