"""Kinds of values that only the box file has: addresses, URLs, command lines, environments. Pure.

See `zerogate.kinds`, whose protocol they follow, and `zerogate.edge_kinds` for the others.
"""

import re
import shlex
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from cli.box import Endpoint
from zerogate.errors import DefinitionError, shown
from zerogate.kinds import Fragment, Raw, wrong
from zerogate.runtime.interface import Address

_PORT: Final = "[0-9]{1,5}"
_NAME: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?"
_ADDRESS: Final = rf"(?:({_NAME})|\[([0-9A-Fa-f:.]{{2,45}})\]):({_PORT})"
_UNIX: Final = r"unix:[^\x00-\x1f\x7f]{1,4096}"
_URL: Final = rf"https?://(?:{_NAME}|\[[0-9A-Fa-f:.]{{2,45}}\])(?::{_PORT})?/?"
_VARIABLE: Final = "[A-Za-z_][A-Za-z0-9_]*"
_QUOTED: Final = re.compile(r"'[^']*'|\"(?:[^\"\\]|\\.)*\"|\\.", re.DOTALL)
_CONTINUED: Final = re.compile(r"'[^']*'|\"(?:[^\"\\]|\\.)*\"|((?<!\S)\\\s+)|\\.", re.DOTALL)
"""A backslash alone and blanks: the end of a line that YAML has folded, or that has a blank too many. What is quoted is
not looked at."""
_ASSIGNMENT: Final = re.compile(rf"{_VARIABLE}=")
_OPERATORS: Final = frozenset({"&&", "||", "|", "&", ";", "<", ">", ">>", "2>", "&>", "2>&1"})
_EXPANDED: Final = re.compile(r"\$[A-Za-z_{(]|^~/")
_NO_PLACE: Final = re.compile(r"\$\{port\}|\{\{ ?port ?\}\}|(?<!\$)\{(?:PORT|Port)\}")
"""What people write for `{port}` who know the language of shells or of templates. It would arrive at the program as it
stands, or with the number in the midst of it."""
_LONGEST_COMMAND: Final = 65_536
"""Linux allows 128 KiB for one argument; nobody writes half of that by hand."""


class ListenAddress(msgspec.Struct, frozen=True):
    """`HOST:PORT` to listen on; port 0 is any free one. With `unix` also `unix:PATH`."""

    unix: bool = False

    def parse(self, raw: Raw) -> Address:
        if self.unix and isinstance(raw, str) and re.fullmatch(_UNIX, raw):
            return Address("", 0, raw.removeprefix("unix:"))
        match = re.fullmatch(_ADDRESS, raw) if isinstance(raw, str) else None
        if not match or int(match[3]) > 65535:
            hint = f"Write 127.0.0.1:{raw}." if isinstance(raw, int) and 0 <= raw <= 65535 else ""
            raise wrong(raw, self.allowed(), hint)
        return Address(match[1] or match[2], int(match[3]))

    def allowed(self) -> str:
        other = ", or a Unix socket such as unix:/run/zerogate/traffic.sock" if self.unix else ""
        return f"an address with a port up to 65535, such as 127.0.0.1:8080 or [::1]:8080{other}"

    def shown_as(self, value: Any) -> str:
        return str(value)

    def fragment(self) -> Fragment:
        return {"type": "string", "pattern": f"^(?:{_ADDRESS}|{_UNIX})$" if self.unix else f"^{_ADDRESS}$"}


class EndpointUrl(msgspec.Struct, frozen=True):
    """Where a service that somebody else runs is reached: `http://`, `https://`, or `unix:PATH`, resolved by the
    reader."""

    def parse(self, raw: Raw) -> Endpoint:
        if isinstance(raw, str) and re.fullmatch(_UNIX, raw):
            return Endpoint(Address("", 0, raw.removeprefix("unix:")))
        if not isinstance(raw, str) or not re.fullmatch(_URL, raw):
            raise wrong(raw, self.allowed())
        try:
            parts = urlsplit(raw)
            is_secure = parts.scheme == "https"
            host, port = parts.hostname, (443 if is_secure else 80) if parts.port is None else parts.port
        except ValueError:
            raise wrong(raw, self.allowed()) from None
        if not host or not port:
            raise wrong(raw, self.allowed())
        return Endpoint(Address(host, port), is_secure=is_secure)

    def allowed(self) -> str:
        return "a URL such as http://127.0.0.1:9005 or https://models.lan without a path, or unix:/run/model.sock"

    def shown_as(self, value: Any) -> str:
        return str(value)

    def fragment(self) -> Fragment:
        return {"type": "string", "pattern": f"^(?:{_URL}|{_UNIX})$"}


class Flag(msgspec.Struct, frozen=True):
    """true or false."""

    def parse(self, raw: Raw) -> bool:
        if not isinstance(raw, bool):
            raise wrong(raw, self.allowed())
        return raw

    def allowed(self) -> str:
        return "true or false"

    def shown_as(self, value: Any) -> str:
        return "true" if value else "false"

    def fragment(self) -> Fragment:
        return {"type": "boolean"}


class CommandLine(msgspec.Struct, frozen=True):
    """A program and its arguments: one string, split as a shell does (nothing is expanded), or a list of texts."""

    def parse(self, raw: Raw) -> tuple[str, ...]:
        _refuse_wrong_place(str(raw))
        if isinstance(raw, str):
            words = self._split(raw)
        elif isinstance(raw, list) and all(isinstance(word, str) for word in raw):
            words = [str(word) for word in raw]
        else:
            raise wrong(raw, self.allowed())
        if not words or not words[0] or sum(map(len, words)) > _LONGEST_COMMAND:
            raise wrong(raw, f"{self.allowed()}, with a program and at most {_LONGEST_COMMAND} characters")
        return tuple(words)

    def _split(self, text: str) -> list[str]:
        # a block of YAML keeps the line ends of a command that was copied from a terminal; shlex would keep them, too
        text = _CONTINUED.sub(lambda found: " " if found[1] else found[0], text.replace("\\\n", ""))
        try:
            words = shlex.split(text)
        except ValueError as error:
            hint = "Close the quote, or write the command as a list."
            raise DefinitionError(f"{shown(text)} cannot be split: {str(error).lower()}", hint=hint) from error
        _refuse_shell_language(text)
        return words

    def allowed(self) -> str:
        return "a command such as 'llama-server --port {port}', or a list of its words"

    def shown_as(self, value: Any) -> str:
        return shlex.join(value)

    def fragment(self) -> Fragment:
        words = {"type": "array", "items": {"type": ["string", "number", "boolean"]}, "minItems": 1}
        return {"anyOf": [{"type": "string", "minLength": 1}, words]}


def _refuse_shell_language(text: str) -> None:
    """What only a shell understands would arrive at the program as it stands: `&&` as an argument, `$PORT` unread."""
    words = _QUOTED.sub("''", text).split()
    if words and _ASSIGNMENT.match(words[0]):
        raise DefinitionError(f"{shown(words[0])} is a variable and no program", hint="Write it under env: instead.")
    for word in words:
        if word in _OPERATORS or word.endswith(";") or _EXPANDED.search(word):
            hint = 'Write ["sh", "-c", "… exec SERVER …"], or a list of words where it is meant as it stands.'
            if "$PORT" in word or "${PORT" in word:
                hint = "Write {port}."
            raise DefinitionError(f"{shown(word)} is for a shell, and commands are run without one", hint=hint)


def _refuse_wrong_place(text: str) -> None:
    if match := _NO_PLACE.search(text):
        raise DefinitionError(f"{shown(match[0])} is no place that a port is put into", hint="Write {port}.")


class Environment(msgspec.Struct, frozen=True):
    """Variables for a command. The reader gives it the texts as written: `1.10` and `on` stay what they are."""

    reserved: tuple[str, ...] = ("PORT",)
    reserved_prefix: str = "ZEROGATE_"

    def parse_entry(self, name: str, raw: str | None) -> str:
        """The value of one variable. Raises DefinitionError."""
        if not re.fullmatch(_VARIABLE, name):
            raise DefinitionError(f"{shown(name)} is not a name of a variable", hint="Letters, digits and _ only.")
        if name in self.reserved or name.startswith(self.reserved_prefix):
            raise DefinitionError(f"{name} is given by zerogate", hint="Take it out; the port is also {port}.")
        if raw is None:
            raise DefinitionError("has no value", hint="Write '' for an empty one.")
        _refuse_wrong_place(raw)
        return raw

    def allowed(self) -> str:
        return "a table of variables, such as {CUDA_VISIBLE_DEVICES: 0}"

    def fragment(self) -> Fragment:
        reserved = "|".join(f"{name}$" for name in self.reserved)
        return {
            "type": "object",
            "propertyNames": {"pattern": f"^(?!{reserved}|{self.reserved_prefix}){_VARIABLE}$"},
            "additionalProperties": {"type": ["string", "number", "boolean"]},
        }
