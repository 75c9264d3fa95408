"""`python -m gateway` from its first word to its exit code."""

import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from gateway.file import EMPTY, read_file
from gateway.parent import Parent
from gateway.settings import read
from gateway.tls import ListenerCertificates
from zerogate.errors import DefinitionError, DefinitionErrors, MachineError
from zerogate.http.certificate_watch import CertificateWatch
from zerogate.http.tracing import what_is_missing
from zerogate.process import raise_open_files


def run(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run until told to leave; the exit code."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="gateway: %(message)s")
    try:
        settings = read(arguments, environ)
        file = EMPTY if settings.file is None else read_file(_content(settings.file), settings.file)
        missing = what_is_missing("--trace-to", "leave it out") if settings.trace_to is not None else None
        if missing is not None:
            raise DefinitionErrors([missing])
        tls = CertificateWatch(ListenerCertificates(settings.tls)) if settings.tls is not None else None
    except DefinitionErrors as errors:
        for error in errors.errors:
            sys.stderr.write(f"gateway: {error}\n")
        return 2
    raise_open_files()
    try:
        return Parent(settings, file, tls).run()
    except MachineError as error:
        sys.stderr.write(f"gateway: {error}\n")
        return 1


def _content(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        problem = f"cannot be read: {error.strerror or error}"
        raise DefinitionErrors([DefinitionError(problem, source=path, hint="Give a file of JSON.")]) from error
