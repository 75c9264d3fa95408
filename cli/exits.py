"""Exit codes of the commands, and which error ends in which. Documented in docs/cli.md and `zerogate --help`. Pure."""

from enum import IntEnum
from typing import Final


class ExitCode(IntEnum):
    OK = 0
    FAILED = 1
    WRONG_INPUT = 2
    UNREACHABLE = 3
    UNKNOWN_SERVICE = 4
    INTERRUPTED = 130


MEANINGS: Final = {
    ExitCode.OK: "done",
    ExitCode.FAILED: "it could not be done; the message says why",
    ExitCode.WRONG_INPUT: "the command line, the file or the number asked for is wrong; nothing was changed",
    ExitCode.UNREACHABLE: "no zerogate answers at the admin address",
    ExitCode.UNKNOWN_SERVICE: "there is no service of that name",
    ExitCode.INTERRUPTED: "ended by Ctrl-C",
}

_OF_STATUS: Final = {
    400: ExitCode.WRONG_INPUT,
    404: ExitCode.UNKNOWN_SERVICE,
    422: ExitCode.WRONG_INPUT,
}


def exit_of_status(status: int) -> ExitCode:
    """The exit code for a problem with this HTTP status."""
    return _OF_STATUS.get(status, ExitCode.FAILED)
