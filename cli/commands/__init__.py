"""What the commands do; `cli.__main__` says how they are called, and imports each only when it is."""
