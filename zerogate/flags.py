"""A process's own settings: flags, and variables of the environment; a flag wins. Pure.

A table of `Option`s says for each setting its name, its default with the reason, and what it means; `--help`, the
reading and the table in the process's document (tests compare) come from it. Variables that are not in the table are
left alone, unless they are all but the same as one that is: Kubernetes puts `ZEROGATE_…` into every pod beside a
Service of that name, and no name of ours may be one that it makes.
"""

import argparse
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from ipaddress import ip_address
from typing import Any, Final, NoReturn

import msgspec

from zerogate.errors import DefinitionError, DefinitionErrors, nearest, shown
from zerogate.quantities import format_duration, format_size, parse_duration, parse_size
from zerogate.runtime.interface import Address

VARIABLE_PREFIX: Final = "ZEROGATE_"
MOST: Final = 1_000_000
_OF_SERVICES: Final = re.compile(r"_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_[0-9]+_[A-Z]+(_[A-Z]+)?)?)$")
"""How names end that Kubernetes makes of a Service: one called zerogate-takeover gives ZEROGATE_TAKEOVER_PORT."""
_MISSPELT: Final = 0.92
"""As difflib counts: a sign or two. No two names of any of our processes are as near as 0.89."""


class Option(msgspec.Struct, frozen=True, kw_only=True):
    """One setting. `default` is written as a user would write it; None: it has to be given."""

    name: str
    field: str
    metavar: str
    parse: Callable[[str], Any]
    default: str | None
    says: str
    is_switch: bool = False
    """A flag without a value, for true; its variable is `true` or `false`."""

    @property
    def variable(self) -> str:
        return VARIABLE_PREFIX + self.name.upper().replace("-", "_")

    @property
    def is_required(self) -> bool:
        return self.default is None


class Positional(msgspec.Struct, frozen=True):
    """The one word without a flag that a program takes."""

    field: str
    metavar: str
    says: str
    is_optional: bool = False


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """What `--help` says of a process, and its options."""

    prog: str
    description: str
    epilog: str
    options: tuple[Option, ...]
    positional: Positional | None = None


def ip_and_port(text: str, *, lowest_port: int = 0) -> Address:
    """`8000`, `127.0.0.1:8000` or `[::1]:8000`. This and the following raise DefinitionError without a place."""
    match = re.fullmatch(r"(?:(localhost|[0-9.]+|\[[0-9A-Fa-f:.]+\]):)?([0-9]{1,5})", text)
    try:
        if match is None or not lowest_port <= int(match[2]) <= 65535:
            raise ValueError
        host = "127.0.0.1" if match[1] in (None, "localhost") else match[1].strip("[]")
        return Address(str(ip_address(host)), int(match[2]))
    except ValueError:
        raise DefinitionError(
            f"{shown(text)} is not a port from {lowest_port} to 65535, alone or behind an IP address",
            hint="Write 8000, 127.0.0.1:8000 or [::1]:8000.",
        ) from None


def unix_socket(text: str) -> Address:
    """`unix:/run/model.sock`."""
    if not re.fullmatch("unix:/[!-~]{1,106}", text):
        raise DefinitionError(
            f"{shown(text)} is not a socket",
            hint="Write unix: and an absolute path of at most 107 characters: unix:/run/model.sock.",
        )
    return Address("", 0, text.removeprefix("unix:"))


def whole(text: str) -> int:
    """From 0."""
    if not re.fullmatch("[0-9]{1,9}", text) or int(text) > MOST:
        raise DefinitionError(f"{shown(text)} is not a whole number from 0 to {MOST}", hint="Write 0 for none.")
    return int(text)


def duration(text: str, *, lowest_s: float = 1.0) -> float:
    """In seconds."""
    seconds = parse_duration(text)
    if not lowest_s <= seconds <= 7 * 86400:
        raise DefinitionError(f"{shown(text)} is not a time from {format_duration(lowest_s)} to 7d")
    return seconds


def duration_or_none(text: str) -> float | None:
    """In seconds; `none` is None."""
    return None if text == "none" else duration(text)


def duration_or_zero(text: str) -> float:
    """In seconds, 0 allowed."""
    return duration(text, lowest_s=0.0)


def size(text: str) -> int:
    """In bytes."""
    size_bytes = parse_size(text)
    if not 1 <= size_bytes <= 1 << 40:
        raise DefinitionError(f"{shown(text)} is not a size up to {format_size(1 << 40)}")
    return size_bytes


def switch(text: str) -> bool:
    """`true` or `false`."""
    if text not in ("true", "false"):
        raise DefinitionError(f"{shown(text)} is neither true nor false")
    return text == "true"


def one_of(*words: str) -> Callable[[str], str]:
    """A parser that takes these words."""

    def parse(text: str) -> str:
        if text not in words:
            raise DefinitionError(f"{shown(text)} is none of {', '.join(words)}")
        return text

    return parse


def token_file(text: str) -> str:
    """An absolute path; `none` is empty."""
    if text == "none":
        return ""
    if not re.fullmatch("/[!-~]{1,1023}", text):
        raise DefinitionError(f"{shown(text)} is not an absolute path", hint="Write /var/run/secrets/zerogate/token.")
    return text


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise DefinitionError(message, hint=f"See {self.prog} --help.")


def parser(program: Program) -> argparse.ArgumentParser:
    """The command line; `--help` prints and exits with 0."""
    command = _Parser(
        prog=program.prog, description=program.description, epilog=program.epilog, allow_abbrev=False
    )  # fmt: skip
    if program.positional is not None:
        word = program.positional
        number = "?" if word.is_optional else None
        command.add_argument(word.field, metavar=word.metavar, help=word.says, nargs=number)
    for option in program.options:
        default = "required" if option.is_required else f"default {option.default}"
        text = f"{option.says} ({default}) [{option.variable}]".replace("%", "%%")
        if option.is_switch:
            command.add_argument(
                f"--{option.name}", action="store_const", const="true", dest=option.field, help=text
            )  # fmt: skip
        else:
            command.add_argument(f"--{option.name}", metavar=option.metavar, dest=option.field, help=text)
    return command


def read_values(
    program: Program, arguments: Sequence[str], environ: Mapping[str, str]
) -> tuple[dict[str, Any], list[DefinitionError]]:
    """The value of each option by field, and all that is wrong."""
    try:
        flags, unknown = parser(program).parse_known_args(list(arguments))
    except DefinitionError as error:
        raise DefinitionErrors([error]) from None
    wrong = [word for word in unknown if word.startswith("-")] or unknown
    errors = [_unknown(program, word) for word in wrong]
    errors += _misspelt(program, environ)
    values: dict[str, Any] = {}
    if program.positional is not None:
        values[program.positional.field] = getattr(flags, program.positional.field)
    for option in program.options:
        flag = getattr(flags, option.field, None)
        text = flag if flag is not None else environ.get(option.variable) or option.default
        try:
            values[option.field] = option.parse(text) if text is not None else _missing(option)
        except DefinitionError as error:
            errors.append(error.at(key=f"--{option.name}" if flag is not None or text is None else option.variable))
    return values, errors


def _unknown(program: Program, word: str) -> DefinitionError:
    near = nearest(word.partition("=")[0], [f"--{option.name}" for option in program.options])
    return DefinitionError(
        f"{shown(word)} is not a flag", hint=f"Did you mean {near}?" if near else f"See {program.prog} --help."
    )


def _misspelt(program: Program, environ: Mapping[str, str]) -> Iterator[DefinitionError]:
    names = [option.variable for option in program.options]
    for name in environ:
        if name in names or not name.startswith(VARIABLE_PREFIX) or _OF_SERVICES.search(name):
            continue
        if near := get_close_matches(name, names, n=1, cutoff=_MISSPELT):
            yield DefinitionError("is not a variable that is read", key=name, hint=f"Did you mean {near[0]}?")


def _missing(option: Option) -> NoReturn:
    raise DefinitionError("is missing", hint=f"Give --{option.name} {option.metavar}, or set {option.variable}.")


def overlap(one: Address, other: Address) -> bool:
    """Whether both cannot be listened on at once."""
    hosts = (one.host, other.host)
    return one.port == other.port and (one.host == other.host or any(ip_address(host).is_unspecified for host in hosts))
