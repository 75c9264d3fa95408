"""`python -m autoscaler`: see docs/kubernetes.md."""

import os
import sys


def main() -> int:
    """Run the autoscaler of a cluster; the exit code."""
    from autoscaler.process import run

    return run(sys.argv[1:], os.environ)


if __name__ == "__main__":
    sys.exit(main())
