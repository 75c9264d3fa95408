"""Tools of the repository itself: its environment, its checks, its generated documents. Not part of the product."""
