"""Where the process begins: Ctrl-C is heard before anything that takes time is imported.

Until a command has something to tidy up (`cli.app` says which; `zerogate up` takes signals on its loop), the process
ends where it is, without the traceback of some import. Imports nothing but what Python has loaded already.
"""

import os
import signal

INTERRUPTED = 130
"""As in `cli.exits`, which is not loaded yet: 128 and the number of SIGINT, as shells have it."""


def main() -> None:
    """The entry of the console script and of `python -m cli`."""
    signal.signal(signal.SIGINT, leave)
    from zerogate.interpreter import check_interpreter

    check_interpreter()
    from cli.app import app

    try:
        app()
    except OSError as error:
        # help is printed before any command begins: onto a full disk, for one
        os.write(2, f"zerogate: {error.strerror or error}\n".encode())
        os._exit(1)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # it leaves already


def leave(*_: object) -> None:
    """End where it is, with one line."""
    os.write(2, b"zerogate: interrupted\n")
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
