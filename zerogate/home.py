"""The user's home folder, where there is one: an account without an entry (a container's number) may have none."""

from collections.abc import Mapping
from pathlib import Path

from zerogate.errors import MachineError


def home_folder(environ: Mapping[str, str]) -> Path:
    """`$HOME`, else what the system says of this user. Raises MachineError where nobody knows one."""
    try:
        return Path(environ.get("HOME") or Path("~").expanduser())
    except RuntimeError as error:
        raise MachineError("There is no home folder: this user has none, and HOME is not set. Set it.") from error
