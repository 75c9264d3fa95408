"""`python -m activator`: see docs/activator.md."""

import os
import sys

from activator.running import run

if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], os.environ))
