"""`make bench-proxy`: zerogate beside other proxies, under the same loads, on the same core."""
