"""The autoscaler of a Kubernetes cluster: what it sees, proves, writes and shows there."""
