"""Which zerogate this is."""

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed


def version() -> str:
    """The installed version, or a word for a checkout that was never installed."""
    try:
        return installed("zerogate")
    except PackageNotFoundError:
        return "0+checkout"
