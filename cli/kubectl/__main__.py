"""The entry of the console script `kubectl-zerogate`, which kubectl finds as `kubectl zerogate`."""

import signal
import sys

from cli.__main__ import leave


def main() -> None:
    """As `cli.__main__.main`, for the other set of commands."""
    signal.signal(signal.SIGINT, leave)
    from zerogate.interpreter import check_interpreter

    check_interpreter()
    from cli.kubectl.app import app
    from cli.kubectl.words import hoisted

    try:
        app(hoisted(sys.argv[1:]))
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


if __name__ == "__main__":
    main()
