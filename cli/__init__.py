"""The console script `zerogate`: the one-box composition, the admin API and its commands."""
