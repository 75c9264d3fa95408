"""`python -m gateway` from its first word to its exit code."""

import logging
import resource
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from gateway.file import read_file
from gateway.parent import Parent
from gateway.settings import read
from zerogate.errors import DefinitionError, DefinitionErrors, MachineError


def run(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run until told to leave; the exit code."""
    try:
        settings = read(arguments, environ)
        file = read_file(_content(settings.file), settings.file)
    except DefinitionErrors as errors:
        for error in errors.errors:
            sys.stderr.write(f"gateway: {error}\n")
        return 2
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="gateway: %(message)s")
    _raise_open_files()
    try:
        return Parent(settings, file).run()
    except MachineError as error:
        sys.stderr.write(f"gateway: {error}\n")
        return 1


def _content(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        problem = f"cannot be read: {error.strerror or error}"
        raise DefinitionErrors([DefinitionError(problem, source=path, hint="Give a file of JSON.")]) from error


def _raise_open_files() -> None:
    """As many open files as the machine allows: the usual 1,024 are 500 requests, two for each."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
