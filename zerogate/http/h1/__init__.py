"""HTTP/1.1 on both sides: `server` toward clients, `client` toward replicas; `reader`, `answer`, `linger`, `memo` are
their parts."""
