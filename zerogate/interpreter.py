"""Whether this Python can run zerogate at all: new enough, and with its packages.

Called first by each entry, so that the wrong interpreter is one sentence and no traceback of some import. Written for
older versions too, and imports nothing.
"""

import sys

OLDEST = (3, 11)


def check_interpreter() -> None:
    """Ends the process with 1 and a sentence where it cannot go on."""
    if sys.version_info < OLDEST:
        have = ".".join(map(str, sys.version_info[:3]))
        sys.exit(f"zerogate needs Python 3.11 or newer, and {sys.executable} is {have}.")
    if not any(finder.find_spec("msgspec", None) for finder in sys.meta_path):
        sys.exit(
            f"zerogate's packages are not installed for {sys.executable}. Run `pip install .` in the checkout, or "
            "take the Python of the environment where that was done."
        )
