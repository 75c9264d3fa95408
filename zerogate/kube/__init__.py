"""Kubernetes: the only package that speaks to an API server. Loaded by composition roots alone, and late."""
