"""Names that several parts agree on. Pure constants."""

ANNOTATION_PREFIX = "zerogate.dev/"
PRODUCT = "zerogate"

REPLICA_MARK = "ZEROGATE_REPLICA"
"""Environment variable by which a child process is known again: `INSTANCE/SERVICE/REPLICA_ID/DEFINITION_HASH/PORT`."""
