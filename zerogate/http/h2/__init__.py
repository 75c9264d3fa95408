"""HTTP/2 (RFC 9113): frames, field compression, the state of one connection for both roles, and the client's side."""
