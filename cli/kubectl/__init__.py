"""`kubectl zerogate`: the commands about services, asked of a cluster's autoscaler through its API server."""
