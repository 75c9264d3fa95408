"""A client of TLS 1.3 that changes its keys, which `ssl` cannot: OpenSSL by its own functions, without a socket."""

import _ssl
import ctypes
import ctypes.util
from typing import Any, Final

_POINTER: Final = ctypes.c_void_p
_INT: Final = ctypes.c_int
_BYTES: Final = ctypes.c_char_p
_FUNCTIONS: Final[dict[str, tuple[Any, ...]]] = {
    "TLS_client_method": (_POINTER,),
    "SSL_CTX_new": (_POINTER, _POINTER),
    "SSL_CTX_free": (None, _POINTER),
    "SSL_new": (_POINTER, _POINTER),
    "SSL_free": (None, _POINTER),
    "SSL_set_bio": (None, _POINTER, _POINTER, _POINTER),
    "SSL_set_connect_state": (None, _POINTER),
    "SSL_do_handshake": (_INT, _POINTER),
    "SSL_key_update": (_INT, _POINTER, _INT),
    "SSL_write": (_INT, _POINTER, _BYTES, _INT),
    "SSL_read": (_INT, _POINTER, _BYTES, _INT),
    "BIO_new": (_POINTER, _POINTER),
    "BIO_s_mem": (_POINTER,),
    "BIO_read": (_INT, _POINTER, _BYTES, _INT),
    "BIO_write": (_INT, _POINTER, _BYTES, _INT),
}
"""What each returns, and what it takes."""


def _library() -> Any:
    """The OpenSSL that Python itself uses; where it hides its names, the system's."""
    own = ctypes.CDLL(_ssl.__file__)
    library = own if hasattr(own, "SSL_key_update") else ctypes.CDLL(ctypes.util.find_library("ssl"))
    for name, (returns, *takes) in _FUNCTIONS.items():
        function = getattr(library, name)
        function.restype, function.argtypes = returns, takes
    return library


class TlsClient:
    """Bytes for the network are what `sent` returns; bytes of the network go into `receive`."""

    def __init__(self) -> None:
        self._lib = lib = _library()
        self._context = lib.SSL_CTX_new(lib.TLS_client_method())
        self._tls = lib.SSL_new(self._context)
        self._in, self._out = lib.BIO_new(lib.BIO_s_mem()), lib.BIO_new(lib.BIO_s_mem())
        lib.SSL_set_bio(self._tls, self._in, self._out)
        lib.SSL_set_connect_state(self._tls)

    def close(self) -> None:
        self._lib.SSL_free(self._tls)
        self._lib.SSL_CTX_free(self._context)

    def shake(self) -> bool:
        """Go on with the handshake; whether it is done."""
        return bool(self._lib.SSL_do_handshake(self._tls) == 1)

    def update_keys(self, *, asks_back: bool) -> None:
        """Change the keys of this side; with `asks_back` the other side has to change its own and say so."""
        assert self._lib.SSL_key_update(self._tls, int(asks_back)) == 1
        assert self.shake()

    def write(self, data: bytes) -> None:
        assert self._lib.SSL_write(self._tls, data, len(data)) == len(data)

    def receive(self, data: bytes) -> bytes:
        """The data in these bytes of the network."""
        self._lib.BIO_write(self._in, data, len(data))
        return self._all(lambda buffer, size: self._lib.SSL_read(self._tls, buffer, size))

    def sent(self) -> bytes:
        return self._all(lambda buffer, size: self._lib.BIO_read(self._out, buffer, size))

    def _all(self, read: Any) -> bytes:
        buffer = ctypes.create_string_buffer(65_536)
        pieces = []
        while (size := read(buffer, len(buffer))) > 0:
            pieces.append(buffer.raw[:size])
        return b"".join(pieces)
