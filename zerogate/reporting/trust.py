"""Whom a source with TLS takes for an autoscaler: whoever an authority of a file vouches for, under the asked name.

The file is read for each connection, so an authority that is added there counts from the next one on, and one that is
taken away no longer; connections that are open stay. A file that is not there yet is no reason to go without: there is
no connection then. Loads OpenSSL, so it is imported only by who has such a file.
"""

import ssl
from pathlib import Path
from typing import Final

MOST_BYTES: Final = 256 * 1024


class Trust:
    """`path`: PEM, one authority or several."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._text = ""
        self._context: ssl.SSLContext | None = None

    def context(self) -> ssl.SSLContext:
        """For the next connection. Raises OSError, which says what is wrong with the file."""
        with Path(self._path).open("rb") as file:
            text = file.read(MOST_BYTES).decode("ascii", "replace")
        if self._context is None or text != self._text:
            self._context, self._text = _context(text, self._path), text
        return self._context


def _context(text: str, path: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # both sides are zerogate's own, so nothing older has to be spoken
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError) as error:
        raise OSError(f"{path} holds no authority that can be read: {error}") from error
    return context
