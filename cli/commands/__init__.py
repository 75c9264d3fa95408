"""What the commands do; `cli.app` says how they are called, and imports each only when it is."""
