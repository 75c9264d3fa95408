"""The sidecar: gate, meter and engine in a small process in front of one model server."""
