"""What runs replicas: the interface, and the fake that tests use in its place."""
