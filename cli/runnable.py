"""A file that this machine can run: right in itself, and its folders, programs and certificates are
there.

Called by `up`, `reload`, `check` and `doctor`, so that what passed a check is what starts. It loads nothing of the
command line's output, because `up` keeps in memory what it loads.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cli.box import BoxFile, Command
from cli.file import read_box_file
from cli.tls_files import load_tls
from zerogate.errors import DefinitionError, DefinitionErrors, shown
from zerogate.http.tracing import what_is_missing

_PATH_SHOWN: Final = 500
"""A path is of no use when it is cut."""


def read_runnable(path: Path, environ: Mapping[str, str] = os.environ) -> BoxFile:
    """The file, with its commands found on this machine. Raises DefinitionErrors. It blocks."""
    box = read_box_file(path, environ)
    errors = machine_errors(box, environ)
    if errors:
        raise DefinitionErrors(errors)
    return box


def machine_errors(box: BoxFile, environ: Mapping[str, str]) -> list[DefinitionError]:
    """What this machine lacks to run the file: folders, programs, certificates."""
    errors: list[DefinitionError] = []
    for service in box.services.values():
        if service.command is not None:
            error = _missing(service.command, environ)
            if error is not None:
                line = box.line_of("services", service.name, error.key)
                errors.append(
                    DefinitionError(
                        error.problem,
                        key=f"services.{service.name}.{error.key}",
                        hint=error.hint,
                        source=box.source,
                        line=line,
                    )
                )
    missing = what_is_missing("trace-to", "take the key out") if box.trace_to is not None else None
    if missing is not None:
        errors.append(missing.at(source=box.source, line=box.line_of("trace-to")))
    try:
        load_tls(box)
    except DefinitionErrors as wrong:
        errors.extend(wrong.errors)
    return errors


def _missing(command: Command, environ: Mapping[str, str]) -> DefinitionError | None:
    """The first thing that the command lacks; the error's key is the service's."""
    if not Path(command.cwd).is_dir():
        return DefinitionError(
            f"{shown(command.cwd, longest=_PATH_SHOWN)} is not a folder",
            key="cwd",
            hint="Make it, or correct the path.",
        )
    program = command.argv[0]
    if "/" in program:
        path = Path(command.cwd, program)
        if not path.is_file():
            hint = "Paths are seen from cwd, which is the file's folder if it is not given."
            return DefinitionError(
                f"there is no program at {shown(str(path), longest=_PATH_SHOWN)}", key="command", hint=hint
            )
        if not os.access(path, os.X_OK):
            problem = f"{shown(str(path), longest=_PATH_SHOWN)} is not executable"
            return DefinitionError(problem, key="command", hint=f"Try chmod +x {path}.")
        return None
    search = command.env.get("PATH", environ.get("PATH", os.defpath))
    if shutil.which(program, path=search) is None:
        hint = "Install it, write its full path, or set PATH in env."
        return DefinitionError(f"the program {shown(program)} is not in PATH", key="command", hint=hint)
    return None
