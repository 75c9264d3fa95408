"""`python -m autoscaler`: see docs/autoscaler.md."""

import os
import sys

from zerogate.interpreter import check_interpreter
from zerogate.signals import leave_already, leave_at_once


def main() -> int:
    """Run the autoscaler of a cluster; the exit code."""
    check_interpreter()
    leave_at_once()
    from autoscaler.process import run

    try:
        return run(sys.argv[1:], os.environ)
    finally:
        leave_already()


if __name__ == "__main__":
    sys.exit(main())
