"""The policy key `affinity`: what in a request says which replica it had better go to. Pure.

How a replica is then found is for `activator.affinity`.
"""

import re
from typing import Final, Literal

import msgspec

from zerogate.errors import DefinitionError
from zerogate.kinds import Fragment, Raw, wrong

LEAST_PROMPT_BYTES: Final = 64
"""Less does not tell two prompts apart from the words that all of them begin with."""
MOST_PROMPT_BYTES: Final = 65536
"""As much of a body as is read before there is a place to send it: sixteen thousand tokens."""
_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}"
_PATTERN: Final = rf"none|(?:header|cookie):{_TOKEN}|prompt:[0-9]{{1,5}}"


class Affinity(msgspec.Struct, frozen=True):
    """A header or a cookie by its `name`, or the first `size_bytes` of the prompt. Header names in lower case."""

    kind: Literal["header", "cookie", "prompt"]
    name: str = ""
    size_bytes: int = 0


class AffinityText(msgspec.Struct, frozen=True):
    """A kind of value: `none` (None), `header:NAME`, `cookie:NAME`, `prompt:BYTES`."""

    def parse(self, raw: Raw) -> Affinity | None:
        if not isinstance(raw, str) or not re.fullmatch(_PATTERN, raw, re.ASCII):
            raise wrong(raw, self.allowed())
        word, _, rest = raw.partition(":")
        if word == "header":
            return Affinity("header", rest.lower())
        if word == "cookie":
            return Affinity("cookie", rest)
        return Affinity("prompt", size_bytes=self._size(rest)) if word == "prompt" else None

    def _size(self, digits: str) -> int:
        size = int(digits)
        if not LEAST_PROMPT_BYTES <= size <= MOST_PROMPT_BYTES:
            raise DefinitionError(f"prompt:{digits} is out of range", hint=f"Allowed is {self.allowed()}.")
        return size

    def allowed(self) -> str:
        return (
            "none, header:NAME, cookie:NAME, or prompt:BYTES with a number from "
            f"{LEAST_PROMPT_BYTES} to {MOST_PROMPT_BYTES}"
        )

    def shown_as(self, value: Affinity | None) -> str:
        if value is None:
            return "none"
        return f"{value.kind}:{value.size_bytes if value.kind == 'prompt' else value.name}"

    def fragment(self) -> Fragment:
        return {"type": "string", "pattern": f"^(?:{_PATTERN})$"}
