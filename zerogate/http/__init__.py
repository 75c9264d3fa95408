"""The data-plane engine: the only code that touches the bytes of a request."""
