"""Everything that speaks to a Kubernetes API server. Loaded lazily, by composition roots only."""
