"""`python -m activator`: see docs/activator.md."""

import os
import sys


def main() -> int:
    """Run the activator; the exit code."""
    # msgspec takes it for two names that `typing` has too: 5 MiB of the process
    sys.modules.setdefault("typing_extensions", None)  # type: ignore[arg-type]
    from activator.running import run

    return run(sys.argv[1:], os.environ)


if __name__ == "__main__":
    sys.exit(main())
