"""Holding: the admission queue, its tickets, their release into free slots, and the wake."""
