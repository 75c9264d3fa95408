"""Names that several parts agree on. Pure constants."""

PRODUCT = "zerogate"

NOT_SENT = b"zerogate-not-sent"
"""Response header by which the gate of a replica says that it refused a request of which the replica saw nothing, so
that it may go elsewhere whatever its method. Only a hop of ours may say so: it is taken out of replicas' answers."""

HOLDER = b"zerogate-holder"
"""Request header by which a gateway tells a sidecar its own name, so that the sidecar knows whose requests are inside.
Only hops of ours write it: it is taken out of clients' requests, and never reaches a model server."""

REPLICA_MARK = "ZEROGATE_REPLICA"
"""Environment variable by which a child process is known again:
`INSTANCE/SERVICE/REPLICA_ID/DEFINITION_HASH/PORT:STOP_GRACE`, the grace in seconds for the day when nobody knows the
service any more."""
