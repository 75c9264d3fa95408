"""What the demonstration plays with: the model, what it is asked, and how long it may idle.

`GEMMA` is the real one. Tests play the same story with a stub as the model.
"""

import sys
from typing import Final

import msgspec

from zerogate.demo.llm import ALIAS

SERVICE: Final = "chat"


class Cast(msgspec.Struct, frozen=True, kw_only=True):
    """One model server and what it is asked. `command` is a service's command: `{port}` is filled in by zerogate."""

    title: str
    model: str
    command: tuple[str, ...]
    cold_question: str
    warm_question: str
    most_tokens: int = 96
    """Some seconds of a small model on two cores."""
    idle_timeout: str = "5s"
    """Long enough to be seen, short enough not to bore."""
    start_timeout: str = "1m"
    """The model loads in about a second; a disk that has to be woken may take some more."""
    needs_weights: bool = True
    """Whether the demonstration's own weights have to be there, and what it learned is kept for the next time."""


GEMMA: Final = Cast(
    title="Gemma 3 270M on llama.cpp, on this machine's CPU",
    model=ALIAS,
    command=(sys.executable, "-m", "zerogate.demo.llm", "--port", "{port}"),
    cold_question="What is a language model?",
    warm_question="What is serverless computing?",
)
"""Two questions, so that the second answer does not profit from what the server remembers of the first."""
