"""Options of kubectl stand anywhere on the line; ours stand before the command. Pure."""

from collections.abc import Sequence
from typing import Final

_SHORT: Final = "-n"
_LONG: Final = ("--namespace", "--kubeconfig", "--context", "--system", "--release")


def hoisted(words: Sequence[str]) -> list[str]:
    """The same words, with those options and their values in front; what follows `--` stays. The command is left out
    where the last of them has no value, or it would be taken for that."""
    front: list[str] = []
    rest: list[str] = []
    at = 0
    while at < len(words):
        word = words[at]
        if word == "--":
            rest += words[at:]
            break
        if word in (_SHORT, *_LONG) and at + 1 == len(words):
            return [*front, word]
        if word in (_SHORT, *_LONG):
            front += words[at : at + 2]
            at += 2
            continue
        is_ours = word.partition("=")[0] in _LONG and "=" in word
        (front if is_ours or _is_short_with_value(word) else rest).append(word)
        at += 1
    return front + rest


def _is_short_with_value(word: str) -> bool:
    return word.startswith(_SHORT) and not word.startswith("--") and len(word) > len(_SHORT)
