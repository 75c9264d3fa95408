"""`python -m gateway`: see docs/gateway.md."""

import os
import sys


def main() -> int:
    """Run the gateway; the exit code."""
    # msgspec takes it for two names that `typing` has too: 5 MiB of each process
    sys.modules.setdefault("typing_extensions", None)  # type: ignore[arg-type]
    from gateway.running import run

    return run(sys.argv[1:], os.environ)


if __name__ == "__main__":
    sys.exit(main())
