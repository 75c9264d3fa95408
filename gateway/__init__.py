"""The HTTP ingress: which service a request is for, and the way there."""
