"""How many replicas each service should have, and why."""
