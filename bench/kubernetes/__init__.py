"""`make bench-kubernetes`: what zerogate costs and how fast it is on a real API server and node."""
