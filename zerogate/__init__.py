"""What the four components share: names, policies, gates, meters, the data-plane engine, the runtimes."""
