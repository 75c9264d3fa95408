"""Reads the box file `zerogate.yaml`: one file in, a `BoxFile` out, nothing else is looked at.

All mistakes of a file are collected, each with
file, line and key, so that it is put right in one go. A file is accepted as a whole or not at all. Called by `up`,
`reload`, `check`, `doctor`; whether the machine can run what the file asks for is `cli.runnable`'s question.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cli.box import BoxFile
from cli.file_reader import BoxReader
from cli.shares import routes
from cli.yaml_positions import read_yaml
from gateway.router import Router
from zerogate.errors import DefinitionError, DefinitionErrors

LARGEST_BYTES: Final = 8 * 1024 * 1024
"""Thousands of services; a wrong path to weights is refused before it is read."""
MOST_ERRORS: Final = 20
"""As many as fit a screen: what is wrong everywhere is wrong for one reason."""


def read_box_file(path: Path, environ: Mapping[str, str] = os.environ) -> BoxFile:
    """The file at `path`. Raises DefinitionErrors. It blocks: not for the loop that carries traffic."""
    source = str(path)
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_BYTES + 1)
    except OSError as error:
        problem = f"cannot be read: {(error.strerror or str(error)).lower()}"
        hint = "Write one (docs/getting-started.md has some to begin with), or give the path of yours."
        if not isinstance(error, FileNotFoundError):
            hint = "Give the path of a zerogate.yaml that may be read."
        raise DefinitionErrors([DefinitionError(problem, source=source, hint=hint)]) from error
    if len(content) > LARGEST_BYTES:
        problem = f"is larger than {LARGEST_BYTES >> 20} MiB"
        raise DefinitionErrors([DefinitionError(problem, source=source, hint="Is it the right file?")])
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        wrong = DefinitionError("is not text in UTF-8", source=source, line=line, hint="Save it as UTF-8.")
        raise DefinitionErrors([wrong]) from error
    return parse_box_file(text, source=source, folder=path.absolute().parent, environ=environ)


def parse_box_file(text: str, *, source: str, folder: Path, environ: Mapping[str, str]) -> BoxFile:
    """As `read_box_file`, from text; relative paths are seen from `folder`. Raises DefinitionErrors."""
    try:
        root, errors = read_yaml(text, source)
    except DefinitionError as error:
        raise DefinitionErrors([error]) from error
    reader = BoxReader(source, folder, environ)
    box = reader.read(root)
    errors = sorted(errors + reader.errors, key=lambda error: error.line or 0)
    if errors or box is None:
        raise DefinitionErrors(_first(errors, source))
    _check_routes(box)
    return box


def _check_routes(box: BoxFile) -> None:
    """What passed here the router takes: it is built for the trial."""
    try:
        Router(routes(box))
    except DefinitionError as error:
        line = box.line_of(*error.key.split("."))
        raise DefinitionErrors([error.at(source=box.source, line=line)]) from error


def _first(errors: list[DefinitionError], source: str) -> list[DefinitionError]:
    more = len(errors) - MOST_ERRORS
    if more <= 0:
        return errors
    return [*errors[:MOST_ERRORS], DefinitionError(f"and {more} more mistakes", source=source)]
