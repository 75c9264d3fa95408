"""`python -m queueproxy`: see docs/queueproxy.md."""

import os
import sys

from zerogate.interpreter import check_interpreter
from zerogate.signals import leave_already, leave_at_once


def main() -> int:
    """Run the sidecar; the exit code."""
    check_interpreter()
    leave_at_once()
    # msgspec takes it for two names that `typing` has too: 5 MiB and 20 ms of a process that is in every pod
    sys.modules.setdefault("typing_extensions", None)  # type: ignore[arg-type]
    from queueproxy.without_tls import leave_out

    leave_out()
    from queueproxy.running import run

    try:
        return run(sys.argv[1:], os.environ)
    finally:
        leave_already()


if __name__ == "__main__":
    sys.exit(main())
