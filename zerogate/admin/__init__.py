"""The admin API: what it answers and takes, and the server of it; on one box and in the autoscaler of a cluster."""
