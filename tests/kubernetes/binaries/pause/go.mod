// What holds a pod's namespaces open, and the first process of a node's own namespaces.
module zerogate.dev/tests/pause

go 1.24.0
